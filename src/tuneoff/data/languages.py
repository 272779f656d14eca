"""The language of texts, as far as their letters and most frequent words show it. Needs no model and no package."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

# The most frequent words of each language that few of the others have.
_FREQUENT = {
    "English": "the of and to in is that for was with as are be this have from or which we by an it not on",
    "German": "der die und den von das mit sich des auf ist im dem nicht ein eine als auch es werden wird bei zu für",
    "French": "le la les et des est une du en que dans qui pour pas au sur avec ce par sont il cette nous plus",
    "Spanish": "el los las de que y en un una por con para es del se lo como más su al ha son pero este",
    "Portuguese": "os as que de e do da em um uma para com não por mais dos das foi ao é são como no na",
    "Italian": "il di che è e la le per un una del della con non sono gli nel dei alla si da più questo anche",
    "Dutch": "de het een van en dat is niet te zijn op met voor aan die er maar om ook als bij wordt door",
    "Swedish": "och att det som en på är av för med den till inte har ett om var jag de från kan så vi men",
    "Danish": "og at det er en på af for med den til ikke har et som der var jeg de fra kan så vi men blev",
    "Norwegian": "og at det er en på av for med den til ikke har et som der var jeg de fra kan så vi men ble",
    "Polish": "i w na z się nie do to że jest o jak po za od ale przez są dla oraz co tym był która",
    "Czech": "a se v na je že s z do to o i ve k pro jsou za ale by jako si po tak od které byl",
    "Turkish": "ve bir bu için ile da de olarak çok daha olan gibi en ne kadar sonra ama var değil o her",
    "Indonesian": "yang dan di untuk dengan ini dari dalam tidak pada itu akan adalah juga oleh ke sebagai dapat",
    "Vietnamese": "và của là có trong được cho các không với một những người này đã để khi từ về",
    "Russian": "и в не на что с по это как его к но из у за от так же для о все был она",
    "Catalan": "de la el i que en els les per amb una un és del a no es al com són aquest aquesta més dels pel",
    "Romanian": "de și în la cu a pe că nu o un din să este pentru sunt care mai ca au lui fi prin sau după",
    "Hungarian": "a az és hogy nem is egy ez ezt azt van volt meg csak de mint már még vagy kell lesz amely között",
    "Finnish": "ja on ei se että oli hän mutta kun myös joka ovat sen tai niin kuin mitä jos voi sekä ole olla",
    "Slovak": "a sa v na je že s z do to o aj ako pre sú za by po tak od ktoré bol alebo jeho pri",
    "Croatian": "i je u da se na su za od s ne bi će što kao a iz koji ili ali koja nije sam to biti",
    "Bulgarian": "и на в за се от с да не по са е като към който при че това или след които беше както",
    "Ukrainian": "і в не на що з та до це як його але за від для є про або які був також",
}
# Letters that Arabic does not have, and the languages that share its script.
_PERSIAN, _URDU = frozenset("پچژگ"), frozenset("ٹڈڑے")
_WORDS = {name: frozenset(words.split()) for name, words in _FREQUENT.items()}
# Scripts that are used for one language, or where one language is far more frequent than the others.
_OF_SCRIPT = {
    "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "CJK": "Chinese", "GREEK": "Greek",
    "HEBREW": "Hebrew", "ARABIC": "Arabic", "DEVANAGARI": "Hindi", "BENGALI": "Bengali", "TAMIL": "Tamil",
    "THAI": "Thai", "GEORGIAN": "Georgian", "ARMENIAN": "Armenian",
}  # fmt: skip
WITHOUT_SPACES = frozenset(("Chinese", "Japanese", "Thai"))
_MOST_CHARACTERS = 20_000
_FEWEST_WORDS = 20
_LEAST_SHARE, _LEAST_DIFFERENT = 0.15, 4  # of the words; in texts of a language it is usually a third
_LEAD = 1.15  # times as many as the next language has; the Scandinavian languages share most of their words


def language_of(texts: Iterable[str]) -> str | None:
    """The language that most of the texts are in, by its English name; None if that is not clear."""
    sample = _beginning(texts)
    letters = Counter(_script(letter) for letter in sample if letter.isalpha())
    if not letters:
        return None
    if letters["HIRAGANA"] + letters["KATAKANA"] > 0.1 * letters.total():
        return "Japanese"
    script, count = letters.most_common(1)[0]
    if count > 0.5 * letters.total() and script in _OF_SCRIPT:
        return _of_arabic_script(sample) if script == "ARABIC" else _OF_SCRIPT[script]
    words = re.findall(r"[^\W\d_]+", sample.lower())
    if len(words) < _FEWEST_WORDS:
        return None
    counts = Counter(words)
    found = sorted(((sum(counts[word] for word in frequent), name) for name, frequent in _WORDS.items()), reverse=True)
    (most, name), (next_most, _) = found[:2]
    if most < _LEAST_SHARE * len(words) or most < _LEAD * next_most:
        return None
    return name if sum(word in counts for word in _WORDS[name]) >= _LEAST_DIFFERENT else None


def _of_arabic_script(sample: str) -> str:
    letters = Counter(sample)
    if sum(letters[letter] for letter in _URDU) > 0.01 * len(sample):
        return "Urdu"
    return "Persian" if sum(letters[letter] for letter in _PERSIAN) > 0.01 * len(sample) else "Arabic"


def _beginning(texts: Iterable[str]) -> str:
    """The beginnings of the texts, as many as are enough."""
    parts: list[str] = []
    size = 0
    for text in texts:
        parts.append(text[:1000])
        size += len(parts[-1])
        if size >= _MOST_CHARACTERS:
            break
    return "\n".join(parts)


def _script(letter: str) -> str:
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0]
