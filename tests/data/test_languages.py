"""The language of texts by their letters and frequent words."""

import pytest

from tuneoff.data.languages import language_of

TEXTS = {
    "English": "The method of this paper is a new way to train models with few examples, and it is cheap to use.",
    "German": "Die Methode dieser Arbeit ist ein neuer Weg, um Modelle mit wenigen Beispielen zu trainieren, und das "
    "ist nicht teuer.",
    "French": "La méthode de cet article est une nouvelle façon d'entraîner des modèles avec peu d'exemples, et elle "
    "ne coûte pas cher pour les petits laboratoires.",
    "Spanish": "El método de este artículo es una nueva forma de entrenar los modelos con pocos ejemplos, y no es caro "
    "para los laboratorios pequeños.",
    "Italian": "Il metodo di questo articolo è un nuovo modo di addestrare i modelli con pochi esempi, e non è costoso "
    "per i laboratori della città.",
    "Dutch": "De methode van dit artikel is een nieuwe manier om modellen te trainen met weinig voorbeelden, en het is "
    "niet duur voor kleine laboratoria.",
    "Russian": "Метод этой статьи — это новый способ обучать модели на небольшом числе примеров, и он не стоит дорого "
    "для лабораторий, как и для всех, кто это делает сам.",
    "Chinese": "本文的方法是一种用少量例子训练模型的新方法。",
    "Japanese": "この論文の方法は、少ない例でモデルを学習する新しい方法です。",
    "Korean": "이 논문의 방법은 적은 예로 모델을 학습하는 새로운 방법입니다.",
    "Arabic": "طريقة هذه الورقة هي طريقة جديدة لتدريب النماذج",
    "Persian": "روش این مقاله راهی تازه برای آموزش مدل‌ها با نمونه‌های کم است و گران نیست، "
    "پس هر گروه می‌تواند چند مدل بسازد",
    "Urdu": "اس مضمون کا طریقہ کم مثالوں سے ماڈل کو تربیت دینے کا ایک نیا طریقہ ہے اور یہ مہنگا نہیں ہے",
    "Catalan": "El mètode d'aquest article és una nova manera d'entrenar els models amb pocs exemples, i no és car "
    "per als laboratoris petits.",
    "Romanian": "Metoda din acest articol este un mod nou de a antrena modele cu puține exemple și nu este scumpă "
    "pentru laboratoarele mici care au nevoie de ea.",
    "Hungarian": "A cikk módszere egy új út arra, hogy a modelleket kevés példával tanítsuk, és ez nem is drága, ha "
    "egy kis laboratórium használja.",
    "Finnish": "Artikkelin menetelmä on uusi tapa opettaa malleja, kun esimerkkejä on vähän, ja se ei ole kallis, "
    "mutta se on myös nopea ja niin helppo, että kaikki voivat käyttää sitä.",
    "Bulgarian": "Методът на тази статия е нов начин за обучение на модели с малко примери и не е скъп за "
    "лабораториите, които се нуждаят от това.",
    "Greek": "Η μέθοδος αυτού του άρθρου είναι ένας νέος τρόπος",
}


@pytest.mark.parametrize("language", TEXTS)
def test_languages(language: str) -> None:
    assert language_of([TEXTS[language]]) == language
    assert language_of([TEXTS[language]] * 50) == language


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        ["12 34"],
        ["Order 1182: no charger"],
        ["lorem ipsum dolor sit amet " * 9],
        ["a s o eht tluser fo hcae repap " * 9],
    ],
)
def test_what_is_not_clear_is_not_named(texts: list[str]) -> None:
    assert language_of(texts) is None
