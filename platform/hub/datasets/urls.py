from django.urls import URLPattern, path

from hub.datasets import api, upload_api

urlpatterns: list[URLPattern] = [
    path("datasets", api.DatasetsView.as_view()),
    path("datasets/sample", api.SampleView.as_view()),
    path("datasets/preview", api.PreviewView.as_view()),
    path("datasets/<uuid:dataset_id>", api.DatasetView.as_view()),
    path("datasets/<uuid:dataset_id>/rows", api.RowsView.as_view()),
    path("limits", upload_api.LimitsView.as_view()),
    path("uploads", upload_api.UploadsView.as_view()),
    path("uploads/<uuid:upload_id>", upload_api.UploadView.as_view()),
]
