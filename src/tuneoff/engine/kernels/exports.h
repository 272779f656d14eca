/* Functions that each library of kernels exports in the same words. A library includes them last: they call its static
 * functions. `STEP` numbers are the smallest part of a gate. */

/* y = silu(gate) * up, for a multiple of 32 numbers. */
long gate_product(const number *gate, const number *up, number *y, long count, long threads) {
    FOR_EACH_THREAD(count / STEP, threads, gate_part(gate, up, y, from, to));
    return finish();
}

/* Gradients of gate and up. */
long gate_product_back(const number *gradient, const number *gate, const number *up, number *grad_gate,
                       number *grad_up, long count, long threads) {
    FOR_EACH_THREAD(count / STEP, threads, gate_back_part(gradient, gate, up, grad_gate, grad_up, from, to));
    return finish();
}

/* y = weight * x * scale, scale = 1 / sqrt(mean(x^2) + epsilon) of a row. */
long norm(const number *x, const number *weight, number *y, float *scales, float epsilon, long rows, long width,
          long threads) {
    FOR_EACH_THREAD(rows, smaller(threads, rows), norm_part(x, weight, y, scales, width, epsilon, from, to));
    return finish();
}

/* grad_x = residual, which may be grad_x itself, plus the gradient of x. */
long norm_back(const number *gradient, const number *x, const number *weight, const float *scales,
               const number *residual, number *grad_x, long rows, long width, long threads) {
    FOR_EACH_THREAD(rows, smaller(threads, rows),
                    norm_back_part(gradient, x, weight, scales, residual, grad_x, width, from, to));
    return finish();
}

/* y = softmax(scale * q k' + causal mask) v. */
long attention(const number *q, const number *k, const number *v, number *y, float *logs, const long *strides,
               float scale, long batch, long heads, long shared, long length, long keys, long width, long threads) {
    Attention a = {.q = q, .k = k, .v = v, .out = y, .logs = logs, .strides = strides, .scale = scale, .batch = batch,
                   .heads = heads, .shared = shared, .length = length, .keys = keys, .width = width};
    FOR_EACH_THREAD(batch * shared, smaller(threads, batch * shared), attention_groups(&a, 0, from, to));
    return finish();
}

/* y (batch, heads, width) of one new query a row. `shared` heads of keys and values, for at most 16 queries each. */
long attention_of_new(const number *q, const number *k, const number *v, number *y, const long *strides,
                      const long *starts, float scale, long batch, long heads, long shared, long keys, long width,
                      long threads) {
    NewQueries a = {.q = q, .k = k, .v = v, .y = y, .strides = strides, .starts = starts, .scale = scale,
                    .heads = heads, .shared = shared, .keys = keys, .width = width};
    FOR_EACH_THREAD(batch * shared, smaller(threads, batch * shared), attend_new(&a, from, to));
    return finish();
}

/* Gradients of q, k and v from the gradient g of y. */
long attention_back(const number *g, const number *q, const number *k, const number *v, const number *y,
                    float *logs, const long *strides, float scale, number *grad_q, number *grad_k,
                    number *grad_v, long batch, long heads, long shared, long length, long keys, long width,
                    long threads) {
    Attention a = {.q = q, .k = k, .v = v, .y = y, .g = g, .grad_q = grad_q, .grad_k = grad_k, .grad_v = grad_v,
                   .logs = logs, .strides = strides, .scale = scale, .batch = batch, .heads = heads, .shared = shared,
                   .length = length, .keys = keys, .width = width};
    FOR_EACH_THREAD(batch * shared, smaller(threads, batch * shared), attention_groups(&a, 1, from, to));
    return finish();
}
