"""Lists the dog breeds: the models that know each, and the datasets that show them."""

from fastapi import APIRouter

from api.access import requires
from api.breeds import known_breeds
from api.datasets import prepared_datasets
from api.schemas.catalog import BreedInfo, BreedList, DatasetBreed, DatasetInfo, DatasetList
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


@router.get("/datasets", summary="Which datasets are there?", dependencies=[requires("viewer")])
def list_datasets(service: ServiceDependency) -> DatasetList:
    """What `python -m data prepare` and `python -m data kinds` put under `DOGBOOTH_HOME/data`:
    `POST /trainings` learns breeds from it.
    """
    return DatasetList(
        datasets=[
            DatasetInfo(
                name=dataset.name,
                class_word=dataset.class_word,
                breeds=[
                    DatasetBreed(name=kind.name, spanish=kind.spanish, photos=kind.photos)
                    for kind in dataset.kinds
                ],
            )
            for dataset in prepared_datasets(service.settings.home)
        ]
    )
