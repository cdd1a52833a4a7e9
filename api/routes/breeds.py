"""Lists the dog breeds and the models that know each."""

from fastapi import APIRouter

from api.access import requires
from api.breeds import known_breeds
from api.schemas.catalog import BreedInfo, BreedList
from api.service import ServiceDependency
from data.breeds import BREEDS

router = APIRouter(tags=["breeds"])


@router.get("/breeds", summary="Which breeds are there?", dependencies=[requires("viewer")])
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
