"""Lists the dog breeds and the models that know each."""

from fastapi import APIRouter

from api.schemas import BreedInfo, BreedList
from api.service import ServiceDependency
from data.breeds import BREEDS
from models.catalog import Catalog, CatalogEntry
from models.errors import ModelsError

router = APIRouter(tags=["breeds"])


@router.get("/breeds", summary="Which breeds are there?")
def list_breeds(service: ServiceDependency) -> BreedList:
    """The 120 breeds of Stanford Dogs by their English and Spanish names."""
    known = {
        entry.manifest.name: known_breeds(entry, service.catalog)
        for entry in service.catalog.entries()
    }
    return BreedList(
        breeds=[
            BreedInfo(
                name=breed.name,
                spanish=breed.spanish,
                synset=breed.synset,
                models=[model for model, names in known.items() if breed.name in names],
            )
            for breed in BREEDS
        ]
    )


def known_breeds(entry: CatalogEntry, catalog: Catalog) -> set[str]:
    """English names of the breeds that the model or its base was trained on."""
    breeds = set(entry.manifest.breeds)
    if entry.manifest.base is None:
        return breeds
    try:
        return breeds | set(catalog.get(entry.manifest.base).manifest.breeds)
    except ModelsError:  # a base outside the catalog says nothing of its breeds
        return breeds
