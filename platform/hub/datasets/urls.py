from django.urls import URLPattern, path

from hub.datasets import api

urlpatterns: list[URLPattern] = [
    path("datasets", api.DatasetsView.as_view()),
    path("datasets/sample", api.SampleView.as_view()),
    path("datasets/preview", api.PreviewView.as_view()),
    path("datasets/<uuid:dataset_id>", api.DatasetView.as_view()),
    path("datasets/<uuid:dataset_id>/rows", api.RowsView.as_view()),
]
