"""Models, versions and aliases as they are shown."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from hub.core import storage
from hub.registry.models import Alias, Model, ModelKind, ModelVersion
from pst_client.layout import CARD

COMPACT = "sparse/"
MAX_CARD_BYTES = 1024 * 1024


class FileSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")
    sha256 = serializers.CharField()


class BytesSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="Bytes of all files.")
    dense = serializers.IntegerField(allow_null=True, help_text="Weights that transformers loads; null without any.")
    compact = serializers.IntegerField(allow_null=True, help_text="The same weights as `pst pull --compact` fetches.")


class HeadlineSerializer(serializers.Serializer[Any]):
    metric = serializers.CharField(help_text="What models of this task are compared by, such as accuracy or bleu.")
    split = serializers.ChoiceField(choices=["test", "validation"])
    value = serializers.FloatField()
    dense = serializers.FloatField(allow_null=True, help_text="The same of the dense model; null where none was made.")
    sparsity = serializers.FloatField(allow_null=True, help_text="Share of zeros in the pruned matrices.")


class VersionRowSerializer(serializers.ModelSerializer[ModelVersion]):
    """A version in a list. ``version.files`` with their blobs, ``version.aliases`` and ``created_by`` should be
    prefetched."""

    created_by = serializers.CharField(source="created_by.username", allow_null=True, default=None)
    architecture = serializers.SerializerMethodField()
    bytes = serializers.SerializerMethodField()
    headline = HeadlineSerializer(allow_null=True, read_only=True)
    aliases = serializers.SerializerMethodField()

    class Meta:
        model = ModelVersion
        fields = [
            "number",
            "commit",
            "created_at",
            "created_by",
            "job_id",
            "architecture",
            "bytes",
            "headline",
            "aliases",
        ]
        read_only_fields = fields

    @extend_schema_field(BytesSerializer())
    def get_bytes(self, version: ModelVersion) -> dict[str, int | None]:
        sizes = [(file.path, file.blob.size) for file in version.files.all()]
        weights = [(path, size) for path, size in sizes if path.endswith(".safetensors")]
        return {
            "total": sum(size for _, size in sizes),
            "dense": sum(size for path, size in weights if "/" not in path) or None,
            "compact": sum(size for path, size in weights if path.startswith(COMPACT)) or None,
        }

    def get_architecture(self, version: ModelVersion) -> str:
        """The class that its config names, such as BertForSequenceClassification; empty where it names none."""
        named = version.config.get("architectures")
        return str(named[0]) if isinstance(named, list) and named else ""

    def get_aliases(self, version: ModelVersion) -> list[str]:
        return [alias.name for alias in version.aliases.all()]


class VersionSerializer(VersionRowSerializer):
    """A version with all that is known of it: its report alone may have some hundred kB."""

    files = serializers.SerializerMethodField()
    manifest = serializers.DictField()
    report = serializers.DictField()
    card = serializers.SerializerMethodField()
    labels = serializers.ListField(child=serializers.CharField(), help_text="In the order of their numbers.")

    class Meta(VersionRowSerializer.Meta):
        fields = [*VersionRowSerializer.Meta.fields, "files", "manifest", "report", "card", "labels"]
        read_only_fields = fields

    @extend_schema_field(FileSerializer(many=True))
    def get_files(self, version: ModelVersion) -> list[dict[str, Any]]:
        return [{"path": file.path, "size": file.blob.size, "sha256": file.blob_id} for file in version.files.all()]

    def get_card(self, version: ModelVersion) -> str | None:
        """README.md as Markdown."""
        for file in version.files.all():
            if file.path == CARD:
                with storage.open_blob(file.blob_id) as stream:
                    return stream.read(MAX_CARD_BYTES).decode("utf-8", errors="replace")
        return None


class AliasSerializer(serializers.ModelSerializer[Alias]):
    version = serializers.IntegerField(source="version.number")
    commit = serializers.CharField(source="version.commit")
    moved_by = serializers.CharField(source="moved_by.username", allow_null=True, default=None)

    class Meta:
        model = Alias
        fields = ["name", "version", "commit", "moved_at", "moved_by"]
        read_only_fields = fields


class AliasNameSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.IntegerField(source="version.number")


class ModelRowSerializer(serializers.ModelSerializer[Model]):
    """A model in a list. ``model.newest`` is a list of at most one version (see ``api.models.with_newest``)."""

    repo = serializers.CharField(source="repo_id")
    workspace = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    kind = serializers.ChoiceField(choices=ModelKind.choices)
    latest = serializers.SerializerMethodField()
    aliases = AliasNameSerializer(many=True)

    class Meta:
        model = Model
        fields = ["repo", "workspace", "name", "kind", "description", "created_at", "latest", "aliases"]
        read_only_fields = fields

    @extend_schema_field(VersionRowSerializer(allow_null=True))
    def get_latest(self, model: Model) -> dict[str, Any] | None:
        return self._latest(model, VersionRowSerializer)

    def _latest(self, model: Model, shown: type[VersionRowSerializer]) -> dict[str, Any] | None:
        newest: list[ModelVersion] = model.newest  # type: ignore[attr-defined]
        return dict(shown(newest[0], context=self.context).data) if newest else None


class ModelSerializer(ModelRowSerializer):
    @extend_schema_field(VersionSerializer(allow_null=True))
    def get_latest(self, model: Model) -> dict[str, Any] | None:
        return self._latest(model, VersionSerializer)


class BaseModelSerializer(serializers.Serializer[Model]):
    """A base model and its newest version."""

    repo = serializers.CharField(source="repo_id")
    name = serializers.CharField()
    title = serializers.SerializerMethodField()
    version = serializers.SerializerMethodField()
    commit = serializers.SerializerMethodField()
    architecture = serializers.SerializerMethodField()
    parameters = serializers.SerializerMethodField()
    bytes = serializers.SerializerMethodField()
    license = serializers.SerializerMethodField()
    workspace = serializers.CharField(source="workspace.slug")

    def _newest(self, model: Model) -> ModelVersion:
        version: ModelVersion = model.newest[0]  # type: ignore[attr-defined]
        return version

    def _fact(self, model: Model, name: str) -> Any:
        return self._newest(model).report.get("base_model", {}).get(name)

    def get_title(self, model: Model) -> str:
        return str(self._newest(model).manifest["lineage"].get("title") or model.name)

    def get_version(self, model: Model) -> int:
        return self._newest(model).number

    def get_commit(self, model: Model) -> str:
        return self._newest(model).commit

    def get_architecture(self, model: Model) -> str:
        return str(self._fact(model, "architecture") or "")

    def get_parameters(self, model: Model) -> int:
        """Elements of the floating-point tensors."""
        return int(self._fact(model, "parameters") or 0)

    def get_bytes(self, model: Model) -> int:
        """Bytes of all files."""
        return sum(file.blob.size for file in self._newest(model).files.all())

    def get_license(self, model: Model) -> str:
        return str(self._newest(model).manifest["lineage"].get("license") or "")
