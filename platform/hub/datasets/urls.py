from django.urls import URLPattern, path

from hub.datasets.api import datasets, limits, uploads

urlpatterns: list[URLPattern] = [
    path("datasets", datasets.DatasetsView.as_view()),
    path("datasets/sample", datasets.SampleView.as_view()),
    path("datasets/preview", datasets.PreviewView.as_view()),
    path("datasets/<uuid:dataset_id>", datasets.DatasetView.as_view()),
    path("datasets/<uuid:dataset_id>/rows", datasets.RowsView.as_view()),
    path("limits", limits.LimitsView.as_view()),
    path("uploads", uploads.UploadsView.as_view()),
    path("uploads/<uuid:upload_id>", uploads.UploadView.as_view()),
]
