"""The 120 breeds of Stanford Dogs, found by English or Spanish name, synset or wildcard."""

import difflib
import fnmatch
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from data.errors import DataError


@dataclass(frozen=True)
class Breed:
    """One class of Stanford Dogs."""

    synset: str
    """WordNet id, as in "n02099601"."""
    folder: str
    """Name of its folder in the dataset, as in "n02099601-golden_retriever"."""
    name: str
    """English name as people write it."""
    spanish: str
    """Spanish name as people write it."""
    aliases: tuple[str, ...] = ()
    """Other common names, in both languages; breeds may share one ("poodle")."""


class UnknownBreed(DataError):
    """No breed has this name; the message names the nearest ones."""

    def __init__(self, value: str, nearest: Sequence[str]) -> None:
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        super().__init__(f"unknown breed {value!r}{hint}")
        self.value = value
        self.nearest = list(nearest)


# folder | English | Spanish | aliases
_TABLE = """
n02085620-Chihuahua | Chihuahua | chihuahua | chihuahueño
n02085782-Japanese_spaniel | Japanese Chin | chin japonés | Japanese spaniel; spaniel japonés
n02085936-Maltese_dog | Maltese | bichón maltés | maltés; Maltese terrier
n02086079-Pekinese | Pekingese | pequinés | Pekinese; Peke
n02086240-Shih-Tzu | Shih Tzu | shih tzu | shitzu
n02086646-Blenheim_spaniel | Blenheim spaniel | spaniel blenheim |
    King Charles spaniel; Cavalier King Charles spaniel; cavalier king charles
n02086910-papillon | papillon | papillón | spaniel continental enano
n02087046-toy_terrier | toy terrier | terrier toy | English toy terrier; toy terrier inglés
n02087394-Rhodesian_ridgeback | Rhodesian ridgeback | perro crestado rodesiano |
    ridgeback; crestado de Rodesia; perro crestado de Rodesia
n02088094-Afghan_hound | Afghan hound | galgo afgano | Afghan; lebrel afgano
n02088238-basset | basset hound | basset hound | basset
n02088364-beagle | beagle | beagle | bigle
n02088466-bloodhound | bloodhound | sabueso de San Huberto | perro de San Huberto; sleuthhound
n02088632-bluetick | bluetick coonhound | coonhound azul | bluetick; sabueso moteado azul
n02089078-black-and-tan_coonhound | black and tan coonhound | coonhound negro y fuego |
    black-and-tan; sabueso negro y fuego
n02089867-Walker_hound | treeing Walker coonhound | coonhound walker | Walker hound; Walker foxhound
n02089973-English_foxhound | English foxhound | foxhound inglés | raposero inglés; foxhound
n02090379-redbone | redbone coonhound | coonhound rojo | redbone; sabueso rojo
n02090622-borzoi | borzoi | borzoi | Russian wolfhound; galgo ruso; lebrel ruso
n02090721-Irish_wolfhound | Irish wolfhound | lobero irlandés | wolfhound; lebrel irlandés
n02091032-Italian_greyhound | Italian greyhound | galgo italiano | pequeño lebrel italiano
n02091134-whippet | whippet | whippet | lebrel inglés pequeño
n02091244-Ibizan_hound | Ibizan hound | podenco ibicenco | Ibizan podenco
n02091467-Norwegian_elkhound | Norwegian elkhound | elkhound noruego |
    elkhound; cazador de alces noruego
n02091635-otterhound | otterhound | otterhound | otter hound; perro de nutria
n02091831-Saluki | Saluki | saluki | gazelle hound; galgo persa
n02092002-Scottish_deerhound | Scottish deerhound | lebrel escocés | deerhound; galgo escocés
n02092339-Weimaraner | Weimaraner | braco de Weimar | weimaranés
n02093256-Staffordshire_bullterrier | Staffordshire bull terrier | bull terrier de Staffordshire |
    Staffordshire bullterrier; Staffie; Staffy
n02093428-American_Staffordshire_terrier | American Staffordshire terrier |
    american staffordshire terrier | Amstaff; pit bull; pit bull terrier; pitbull
n02093647-Bedlington_terrier | Bedlington terrier | terrier de Bedlington | Bedlington
n02093754-Border_terrier | Border terrier | border terrier | terrier de la frontera
n02093859-Kerry_blue_terrier | Kerry blue terrier | terrier azul de Kerry | Kerry blue
n02093991-Irish_terrier | Irish terrier | terrier irlandés |
n02094114-Norfolk_terrier | Norfolk terrier | terrier de Norfolk |
n02094258-Norwich_terrier | Norwich terrier | terrier de Norwich |
n02094433-Yorkshire_terrier | Yorkshire terrier | yorkshire terrier |
    Yorkie; terrier de Yorkshire; yorkshire
n02095314-wire-haired_fox_terrier | wire fox terrier | fox terrier de pelo duro |
    wirehaired fox terrier; fox terrier; fox terrier de pelo de alambre
n02095570-Lakeland_terrier | Lakeland terrier | terrier de Lakeland |
n02095889-Sealyham_terrier | Sealyham terrier | terrier de Sealyham | Sealyham
n02096051-Airedale | Airedale terrier | airedale terrier | Airedale; terrier de Airedale
n02096177-cairn | cairn terrier | cairn terrier | terrier de cairn
n02096294-Australian_terrier | Australian terrier | terrier australiano |
n02096437-Dandie_Dinmont | Dandie Dinmont terrier | terrier dandie dinmont | Dandie Dinmont
n02096585-Boston_bull | Boston terrier | boston terrier | Boston bull; terrier de Boston
n02097047-miniature_schnauzer | miniature schnauzer | schnauzer miniatura |
    schnauzer; schnauzer enano; mini schnauzer
n02097130-giant_schnauzer | giant schnauzer | schnauzer gigante | schnauzer
n02097209-standard_schnauzer | standard schnauzer | schnauzer estándar |
    schnauzer; schnauzer mediano
n02097298-Scotch_terrier | Scottish terrier | terrier escocés | Scotch terrier; Scottie
n02097474-Tibetan_terrier | Tibetan terrier | terrier tibetano |
n02097658-silky_terrier | Australian silky terrier | terrier sedoso australiano |
    silky terrier; silky terrier australiano; Sydney silky
n02098105-soft-coated_wheaten_terrier | soft-coated wheaten terrier |
    terrier irlandés de pelo suave | wheaten terrier; soft coated wheaten terrier
n02098286-West_Highland_white_terrier | West Highland white terrier |
    west highland white terrier | Westie; terrier blanco de West Highland
n02098413-Lhasa | Lhasa Apso | lhasa apso | Lhasa
n02099267-flat-coated_retriever | flat-coated retriever | retriever de pelo liso |
    cobrador de pelo liso
n02099429-curly-coated_retriever | curly-coated retriever | retriever de pelo rizado |
    cobrador de pelo rizado
n02099601-golden_retriever | golden retriever | golden retriever |
    golden; cobrador dorado; perdiguero dorado; retriever dorado
n02099712-Labrador_retriever | Labrador retriever | labrador retriever |
    Labrador; lab retriever; cobrador de Labrador; perro labrador
n02099849-Chesapeake_Bay_retriever | Chesapeake Bay retriever | retriever de Chesapeake |
    cobrador de la bahía de Chesapeake; Chessie
n02100236-German_short-haired_pointer | German shorthaired pointer |
    braco alemán de pelo corto | German short-haired pointer; braco alemán
n02100583-vizsla | vizsla | vizsla | Hungarian pointer; braco húngaro
n02100735-English_setter | English setter | setter inglés |
n02100877-Irish_setter | Irish setter | setter irlandés | red setter; setter irlandés rojo
n02101006-Gordon_setter | Gordon setter | setter gordon | setter escocés
n02101388-Brittany_spaniel | Brittany spaniel | spaniel bretón |
    Brittany dog; épagneul bretón; bretón
n02101556-clumber | Clumber spaniel | clumber spaniel | Clumber; spaniel clumber
n02102040-English_springer | English springer spaniel | springer spaniel inglés |
    English springer; springer spaniel
n02102177-Welsh_springer_spaniel | Welsh springer spaniel | springer spaniel galés |
n02102318-cocker_spaniel | cocker spaniel | cocker spaniel |
    cocker; cocker spaniel inglés; cocker spaniel americano; English cocker spaniel
n02102480-Sussex_spaniel | Sussex spaniel | sussex spaniel | spaniel de Sussex
n02102973-Irish_water_spaniel | Irish water spaniel | perro de agua irlandés |
    spaniel de agua irlandés
n02104029-kuvasz | kuvasz | kuvasz | Hungarian kuvasz
n02104365-schipperke | schipperke | schipperke |
n02105056-groenendael | Groenendael | groenendael |
    Belgian sheepdog; Belgian shepherd; pastor belga; pastor belga groenendael
n02105162-malinois | Malinois | malinois | Belgian Malinois; pastor belga malinois; pastor belga
n02105251-briard | briard | pastor de Brie | briard; Berger de Brie
n02105412-kelpie | Australian kelpie | kelpie australiano | kelpie
n02105505-komondor | komondor | komondor |
n02105641-Old_English_sheepdog | Old English sheepdog | antiguo pastor inglés |
    bobtail; viejo pastor inglés
n02105855-Shetland_sheepdog | Shetland sheepdog | pastor de Shetland |
    Sheltie; Shetland collie; pastor de las islas Shetland
n02106030-collie | rough collie | collie | rough collie; Lassie; collie de pelo largo
n02106166-Border_collie | Border collie | border collie |
n02106382-Bouvier_des_Flandres | Bouvier des Flandres | boyero de Flandes | Bouvier
n02106550-Rottweiler | Rottweiler | rottweiler | Rottie
n02106662-German_shepherd | German shepherd | pastor alemán |
    German shepherd dog; Alsatian; German police dog; ovejero alemán
n02107142-Doberman | Doberman | dóberman | Doberman pinscher; Dobermann
n02107312-miniature_pinscher | miniature pinscher | pinscher miniatura | min pin; pinscher enano
n02107574-Greater_Swiss_Mountain_dog | Greater Swiss Mountain dog | gran boyero suizo |
n02107683-Bernese_mountain_dog | Bernese mountain dog | boyero de Berna |
    Bernese; boyero bernés; perro de montaña de Berna
n02107908-Appenzeller | Appenzeller Sennenhund | boyero de Appenzell |
    Appenzeller; perro boyero de Appenzell
n02108000-EntleBucher | Entlebucher mountain dog | boyero de Entlebuch |
    Entlebucher; perro boyero de Entlebuch
n02108089-boxer | boxer | bóxer | boxer dog
n02108422-bull_mastiff | bullmastiff | bullmastiff | bull mastiff
n02108551-Tibetan_mastiff | Tibetan mastiff | mastín tibetano | dogo tibetano
n02108915-French_bulldog | French bulldog | bulldog francés | Frenchie; buldog francés
n02109047-Great_Dane | Great Dane | gran danés | dogo alemán
n02109525-Saint_Bernard | Saint Bernard | san bernardo | St Bernard; St. Bernard
n02109961-Eskimo_dog | Eskimo dog | perro esquimal | American Eskimo dog; perro esquimal canadiense
n02110063-malamute | Alaskan malamute | malamute de Alaska | malamute; Alaskan malemute
n02110185-Siberian_husky | Siberian husky | husky siberiano | husky
n02110627-affenpinscher | affenpinscher | affenpinscher | monkey pinscher
n02110806-basenji | basenji | basenji |
n02110958-pug | pug | carlino | pug dog; doguillo
n02111129-Leonberg | Leonberger | leonberger | Leonberg; perro de Leonberg
n02111277-Newfoundland | Newfoundland | terranova | Newfoundland dog; perro de Terranova; Newfie
n02111500-Great_Pyrenees | Great Pyrenees | perro de montaña de los Pirineos |
    Pyrenean mountain dog; gran pirineo; montaña de los Pirineos; mastín del Pirineo
n02111889-Samoyed | Samoyed | samoyedo | Samoyede
n02112018-Pomeranian | Pomeranian | pomerania | Pom; lulú de Pomerania; pomeranio
n02112137-chow | chow chow | chow chow | chow; chowchow
n02112350-keeshond | keeshond | keeshond | wolf spitz; spitz lobo
n02112706-Brabancon_griffon | Brussels griffon | grifón de Bruselas |
    Brabancon griffon; griffon; petit brabançon; grifón belga
n02113023-Pembroke | Pembroke Welsh corgi | corgi galés de Pembroke |
    Pembroke corgi; corgi; Welsh corgi; corgi galés; corgi pembroke; Pembroke
n02113186-Cardigan | Cardigan Welsh corgi | corgi galés de Cardigan |
    Cardigan corgi; corgi; Welsh corgi; corgi galés; corgi cardigan
n02113624-toy_poodle | toy poodle | caniche toy | poodle; caniche; poodle toy
n02113712-miniature_poodle | miniature poodle | caniche enano |
    poodle; caniche; caniche miniatura
n02113799-standard_poodle | standard poodle | caniche gigante | poodle; caniche; caniche grande
n02113978-Mexican_hairless | Mexican hairless | xoloitzcuintle |
    Xolo; Xoloitzcuintli; perro sin pelo mexicano; Mexican hairless dog; xoloescuincle
n02115641-dingo | dingo | dingo | warrigal
n02115913-dhole | dhole | cuón | Cuon alpinus; perro salvaje asiático
n02116738-African_hunting_dog | African wild dog | licaón |
    African hunting dog; perro salvaje africano; painted dog; Cape hunting dog
"""


def _read_table() -> Iterator[Breed]:
    for record in re.split(r"\n(?=n\d{8}-)", _TABLE.strip()):
        folder, name, spanish, aliases = (cell.strip() for cell in record.split("|"))
        others = tuple(alias.strip() for alias in aliases.split(";") if alias.strip())
        yield Breed(folder.partition("-")[0], folder, name, spanish, others)


BREEDS: tuple[Breed, ...] = tuple(_read_table())
"""All 120, in the dataset's own order."""


def normalize(text: str) -> str:
    """Lower case without accents, with one space for each run of spaces, `_`, `-`, `.` or `'`."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[\s_\-.'’]+", " ", plain).strip()


@cache
def _names(breed: Breed) -> frozenset[str]:
    imagenet_name = breed.folder.partition("-")[2]
    names = (breed.synset, breed.folder, imagenet_name, breed.name, breed.spanish, *breed.aliases)
    return frozenset(normalize(name) for name in names)


def _nearest(name: str) -> list[str]:
    """Up to three English names, of the breeds with a name most like `name`."""
    breeds = {other: breed.name for breed in BREEDS for other in _names(breed)}
    close = difflib.get_close_matches(name, breeds, n=8, cutoff=0.5)
    return list(dict.fromkeys(breeds[other] for other in close))[:3]


def find_breeds(patterns: Sequence[str]) -> list[Breed]:
    """Breeds that match any of `patterns`, each once, in the order of the patterns.

    A pattern is an English or Spanish name, an alias, a synset, a folder or a wildcard over
    those (`*terrier`, `n0211*`); case, accents, `_` and `-` do not matter.

    Raises:
        UnknownBreed: nothing matches a pattern.
    """
    found: dict[Breed, None] = {}
    for pattern in patterns:
        wanted = normalize(pattern)
        matches = [
            breed for breed in BREEDS if any(fnmatch.fnmatchcase(n, wanted) for n in _names(breed))
        ]
        if not matches:
            raise UnknownBreed(pattern, _nearest(wanted))
        found.update(dict.fromkeys(matches))
    return list(found)


def _plural(name: str) -> str:
    """A regular expression for `name` with each word in singular or plural, in either language."""
    words = (
        f"{re.escape(word[:-1])}(?:y|ies|ys)"
        if word.endswith("y")
        else f"{re.escape(word)}(?:e?s)?"
        for word in name.split()
    )
    return " ".join(words)


@cache
def _prompt_pattern() -> tuple[re.Pattern[str], tuple[tuple[Breed, ...], ...]]:
    """A pattern with one group for each name, longest first, and the breeds of each group."""
    breeds: dict[str, list[Breed]] = {}
    for breed in BREEDS:
        # ImageNet's own spellings stay out: "cardigan" in a prompt is a garment.
        for name in {normalize(n) for n in (breed.name, breed.spanish, *breed.aliases)}:
            breeds.setdefault(name, []).append(breed)
    names = sorted(breeds, key=lambda name: (-len(name), name))
    pattern = "|".join(f"({_plural(name)})" for name in names)
    return re.compile(rf"\b(?:{pattern})\b"), tuple(tuple(breeds[name]) for name in names)


def breeds_in(text: str) -> list[Breed]:
    """Breeds named in a prompt in English or Spanish, each once, in the order of the text.

    The longest name wins ("border collie" is no collie); a name that several breeds share
    ("poodle") gives them all.
    """
    pattern, breeds = _prompt_pattern()
    found: dict[Breed, None] = {}
    for match in pattern.finditer(normalize(text)):
        assert match.lastindex is not None
        found.update(dict.fromkeys(breeds[match.lastindex - 1]))
    return list(found)
