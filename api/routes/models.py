"""Lists the models one may ask for."""

from typing import Any

from fastapi import APIRouter

from api.errors import documented
from api.schemas.catalog import ModelDetail, ModelInfo, ModelList
from api.service import Service, ServiceDependency
from models.admission import size_multiple
from models.catalog import CatalogEntry
from models.errors import InvalidModel

router = APIRouter(tags=["models"])


@router.get("/models", summary="Which models are there?")
def list_models(service: ServiceDependency) -> ModelList:
    """Every whole model of the catalog; one that is published is listed without a restart."""
    infos = []
    for entry in service.catalog.entries():
        try:
            infos.append(ModelInfo(**_fields(entry, service)))
        except InvalidModel:
            continue
    return ModelList(models=infos)


@router.get("/models/{name}", summary="What is this model?", responses=documented(404, 422, 500))
def get_model(name: str, service: ServiceDependency) -> ModelDetail:
    """One model, with how it was trained and evaluated."""
    entry = service.catalog.get(name)
    manifest = entry.manifest
    return ModelDetail(
        **_fields(entry, service), training=manifest.training, evaluation=manifest.evaluation
    )


def _fields(entry: CatalogEntry, service: Service) -> dict[str, Any]:
    manifest = entry.manifest
    return {
        **manifest.model_dump(exclude={"training", "evaluation"}),
        "size_multiple": size_multiple(entry, service.catalog),
        "default": manifest.name == service.catalog.default_model(service.settings.default_model),
        "resident": manifest.name in service.engine.describe().resident,
    }
