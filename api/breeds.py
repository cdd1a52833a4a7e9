"""Which breeds a model knows, and what to say of those that it does not."""

from data.breeds import breeds_in
from models.catalog import Catalog, CatalogEntry
from models.errors import ModelsError


def known_breeds(entry: CatalogEntry, catalog: Catalog) -> set[str]:
    """English names of the breeds that the model or its base was trained on."""
    breeds = set(entry.manifest.breeds)
    if entry.manifest.base is None:
        return breeds
    try:
        return breeds | set(catalog.get(entry.manifest.base).manifest.breeds)
    except ModelsError:  # a base outside the catalog says nothing of its breeds
        return breeds


def breed_warnings(prompt: str, model: str, catalog: Catalog) -> list[str]:
    """The breeds of the prompt that the model does not know; none where it lists no breeds."""
    known = known_breeds(catalog.get(model), catalog)
    if not known:
        return []
    return [
        f"the model {model!r} was not trained on the breed {breed.name!r}: it draws a dog"
        for breed in breeds_in(prompt)
        if breed.name not in known
    ]
