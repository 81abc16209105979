"""Indexes that differ between databases."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement


class PartialIndex(models.Index):
    """An index of some rows; of all rows on MySQL and MariaDB, which know no other.

    With Django's own ``condition``, these would have no index, and a warning at each check.

    Args:
        rows: which rows; what asks for others does not find this index.
        arguments: as of Django's index.
    """

    def __init__(self, *, rows: models.Q, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rows = rows

    def deconstruct(self) -> Any:
        path, expressions, arguments = super().deconstruct()
        path = path.replace("django_workflows.database.indexes", "django_workflows.database")
        return path, expressions, {**arguments, "rows": self.rows}

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Statement:
        partial = schema_editor.connection.features.supports_partial_indexes
        index = models.Index(fields=self.fields, name=self.name, condition=self.rows if partial else None)
        return index.create_sql(model, schema_editor, using, **kwargs)
