"""How data sets look in the API."""

from __future__ import annotations

from typing import Any, get_args

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from hub.core.language import said, say
from hub.datasets.formats.decoding import ENCODINGS
from hub.datasets.formats.tables import FORMATS
from hub.datasets.models import Dataset, DatasetFile, DatasetSplit, DatasetState, Split
from pst.config import TaskName
from pst.messages import Message

TASKS = [(name, name) for name in get_args(TaskName)]
READ = [(name, name) for name in FORMATS]
READ_AS = [("auto", "auto"), *READ]
ENCODED_AS = [("auto", "auto"), *[(name, name) for name in ENCODINGS]]
HEADER = [("auto", "auto"), ("true", "true"), ("false", "false")]


class DatasetOptionsSerializer(serializers.Serializer[Any]):
    """How to read the files. What is not given is found."""

    task = serializers.ChoiceField(
        choices=TASKS,
        required=False,
        help_text="What the rows teach: a class, a number, any number of classes, or a text (source and target).",
    )
    format = serializers.ChoiceField(choices=READ_AS, required=False)
    encoding = serializers.ChoiceField(choices=ENCODED_AS, required=False)
    delimiter = serializers.CharField(
        required=False, trim_whitespace=False, max_length=4, help_text='"auto", "tab", or one character.'
    )
    header = serializers.ChoiceField(choices=HEADER, required=False, help_text="Whether the first line names columns.")
    text_column = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="Without a header: column_1, column_2, ..."
    )
    text_pair_column = serializers.CharField(required=False, allow_blank=True, max_length=200)
    label_column = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="Class, number, classes, or the target text."
    )
    references_column = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=200,
        help_text="For generation in JSON: a list of more right texts. Several rows of one source do as well.",
    )
    label_separator = serializers.CharField(
        required=False, trim_whitespace=False, max_length=1, help_text="For multilabel: stands between labels."
    )
    validation_share = serializers.FloatField(
        required=False, min_value=0, max_value=0.5, help_text="Taken from the training rows where no file is uploaded."
    )
    seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)

    def validate_delimiter(self, value: str) -> str:
        value = {"tab": "\t", "\\t": "\t"}.get(value, value)
        if value != "auto" and (len(value) != 1 or value in '"\r\n\0' or value.isalnum()):
            raise serializers.ValidationError(
                say(Message('Give "auto", "tab", or one character that is no letter, digit or quote.'))
            )
        return value


OPTION_NAMES = tuple(DatasetOptionsSerializer().fields)


class DatasetStoredOptionsSerializer(DatasetOptionsSerializer):
    """The options as they are stored: each one set."""


class DatasetUploadSerializer(DatasetOptionsSerializer):
    file = serializers.FileField(max_length=255, help_text="Training rows.")
    validation_file = serializers.FileField(max_length=255, required=False)
    test_file = serializers.FileField(max_length=255, required=False)
    name = serializers.CharField(max_length=100, required=False, allow_blank=True, help_text="Else the file's name.")
    workspace = serializers.CharField(max_length=39, required=False, help_text="Its slug; needed if you have several.")


class DatasetFromUploadsSerializer(DatasetOptionsSerializer):
    """A data set of files that have arrived over /uploads."""

    upload = serializers.UUIDField(help_text="Training rows.")
    validation_upload = serializers.UUIDField(required=False)
    test_upload = serializers.UUIDField(required=False)
    name = serializers.CharField(max_length=100, required=False, allow_blank=True, help_text="Else the file's name.")
    workspace = serializers.CharField(max_length=39, required=False, help_text="Its slug; needed if you have several.")


class DatasetPreviewUploadSerializer(DatasetOptionsSerializer):
    file = serializers.FileField(max_length=255)


class DatasetPatchSerializer(DatasetOptionsSerializer):
    name = serializers.CharField(max_length=100, required=False)


class DatasetSampleSerializer(serializers.Serializer[Any]):
    workspace = serializers.CharField(max_length=39, required=False, help_text="Its slug; needed if you have several.")


class DatasetSuggestedSerializer(serializers.Serializer[Any]):
    text_column = serializers.CharField()
    text_pair_column = serializers.CharField(allow_blank=True)
    label_column = serializers.CharField()
    references_column = serializers.CharField(allow_blank=True)


class DatasetPreviewSerializer(serializers.Serializer[Any]):
    format = serializers.ChoiceField(choices=READ)
    encoding = serializers.CharField()
    delimiter = serializers.CharField(allow_null=True)
    header = serializers.BooleanField(allow_null=True)
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.ListField(child=serializers.CharField(allow_null=True)))
    suggested = DatasetSuggestedSerializer()


class DatasetFileSerializer(serializers.ModelSerializer[DatasetFile]):
    class Meta:
        model = DatasetFile
        fields = ["split", "name", "size", "sha256"]
        read_only_fields = fields


class DatasetSplitSerializer(serializers.ModelSerializer[DatasetSplit]):
    class Meta:
        model = DatasetSplit
        fields = ["split", "rows"]
        read_only_fields = fields


class DatasetFoundErrorSerializer(serializers.Serializer[Any]):
    file = serializers.CharField(allow_null=True)
    line = serializers.IntegerField(allow_null=True, help_text="1-based physical line where the record starts.")
    column = serializers.CharField(allow_null=True, help_text="A name, or a 1-based number.")
    message = serializers.CharField()


class DatasetClassCountSerializer(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]
    count = serializers.IntegerField()
    share = serializers.FloatField()


class DatasetLengthHistogramSerializer(serializers.Serializer[Any]):
    end = serializers.IntegerField(help_text="Upper edge of the last stretch, which also holds what is longer.")
    counts = serializers.ListField(child=serializers.IntegerField(), help_text="Rows in equal stretches from 0.")


class DatasetTextLengthSerializer(serializers.Serializer[Any]):
    unit = serializers.CharField()
    min = serializers.IntegerField()
    p50 = serializers.IntegerField()
    p95 = serializers.IntegerField()
    max = serializers.IntegerField()
    histogram = DatasetLengthHistogramSerializer(required=False)


class DatasetNumbersSerializer(serializers.Serializer[Any]):
    min = serializers.FloatField()
    mean = serializers.FloatField()
    max = serializers.FloatField()
    deviation = serializers.FloatField()


class DatasetSplitReportSerializer(serializers.Serializer[Any]):
    rows = serializers.IntegerField()
    classes = DatasetClassCountSerializer(many=True)
    text_length = DatasetTextLengthSerializer()
    target_length = DatasetTextLengthSerializer(allow_null=True, required=False, help_text="Of generation.")
    numbers = DatasetNumbersSerializer(allow_null=True, required=False, help_text="Of regression.")
    duplicates = serializers.IntegerField()
    empty_texts = serializers.IntegerField()


class DatasetOverlapSerializer(serializers.Serializer[Any]):
    a = serializers.CharField()
    b = serializers.CharField()
    rows = serializers.IntegerField()


class DatasetWarningSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()


class DatasetReportSerializer(serializers.Serializer[Any]):
    """Empty while validating, and where nothing could be read."""

    splits = serializers.DictField(child=DatasetSplitReportSerializer(), required=False)
    columns = serializers.ListField(child=serializers.CharField(), required=False)
    overlap = DatasetOverlapSerializer(many=True, required=False)
    warnings = DatasetWarningSerializer(many=True, required=False)
    majority_share = serializers.FloatField(required=False)


@extend_schema_field(DatasetReportSerializer)
class ReportField(serializers.JSONField):
    def to_representation(self, value: Any) -> Any:
        return value | {"warnings": said(value["warnings"])} if "warnings" in value else value


@extend_schema_field(DatasetFoundErrorSerializer(many=True))
class ErrorsField(serializers.JSONField):
    def to_representation(self, value: Any) -> Any:
        return said(value)


@extend_schema_field(DatasetStoredOptionsSerializer)
class OptionsField(serializers.JSONField):
    pass


class DatasetListedSerializer(serializers.ModelSerializer[Dataset]):
    """A data set in a list."""

    workspace = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    state = serializers.ChoiceField(choices=DatasetState.choices, read_only=True)
    options = OptionsField(read_only=True)
    found = serializers.DictField(
        read_only=True, help_text="What was used: format, encoding, delimiter, header, columns, roles, validation."
    )
    task = serializers.ChoiceField(choices=TASKS, read_only=True)
    labels = serializers.ListField(child=serializers.CharField(), read_only=True)
    files = DatasetFileSerializer(many=True, read_only=True)
    splits = DatasetSplitSerializer(many=True, read_only=True)
    created_by = serializers.SlugRelatedField[Any](slug_field="username", read_only=True, allow_null=True)

    class Meta:
        model = Dataset
        fields = [
            "id",
            "workspace",
            "name",
            "state",
            "options",
            "found",
            "task",
            "labels",
            "text_pair",
            "sha256",
            "files",
            "splits",
            "created_at",
            "validated_at",
            "created_by",
        ]
        read_only_fields = fields


class DatasetSerializer(DatasetListedSerializer):
    """A data set with what was found in its rows."""

    report = ReportField(read_only=True)
    errors = ErrorsField(read_only=True)  # type: ignore[assignment]

    class Meta(DatasetListedSerializer.Meta):
        fields = [*DatasetListedSerializer.Meta.fields, "report", "errors"]
        read_only_fields = fields


class DatasetRowSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField(help_text="1-based number within the split.")
    text = serializers.CharField()
    text_pair = serializers.CharField(allow_null=True)
    label = serializers.CharField(  # type: ignore[assignment]
        help_text="The class, the classes, the number or the target as a text."
    )
    references = serializers.ListField(child=serializers.CharField(), help_text="More right texts, of generation.")


class DatasetRowQuerySerializer(serializers.Serializer[Any]):
    split = serializers.ChoiceField(choices=Split.choices, default=Split.TRAIN.value)
    label = serializers.CharField(  # type: ignore[assignment]
        required=False, trim_whitespace=False, help_text="Rows of this class alone."
    )
