from django.urls import URLPattern, path

from jobs import api, worker_api

JOB = "worker/jobs/<uuid:job_id>"

urlpatterns: list[URLPattern] = [
    path("estimates", api.EstimatesView.as_view()),
    path("jobs", api.JobsView.as_view()),
    path("jobs/<uuid:job_id>", api.JobView.as_view()),
    path("jobs/<uuid:job_id>/cancel", api.CancelView.as_view()),
    path("jobs/<uuid:job_id>/pause", api.PauseView.as_view()),
    path("jobs/<uuid:job_id>/resume", api.ResumeView.as_view()),
    path("jobs/<uuid:job_id>/retry", api.RetryView.as_view()),
    path("jobs/<uuid:job_id>/events", api.JobEventsView.as_view()),
    path("jobs/<uuid:job_id>/report", api.JobReportView.as_view()),
    path("worker/next", worker_api.NextView.as_view()),
    path(f"{JOB}/claim", worker_api.ClaimView.as_view()),
    path(f"{JOB}/heartbeat", worker_api.HeartbeatView.as_view()),
    path(f"{JOB}/events", worker_api.EventsView.as_view()),
    path(f"{JOB}/checkpoint", worker_api.CheckpointView.as_view()),
    path(f"{JOB}/finish", worker_api.FinishView.as_view()),
    path(f"{JOB}/release", worker_api.ReleaseView.as_view()),
    path(f"{JOB}/artifacts/<str:sha256>", worker_api.ArtifactView.as_view()),
    path(f"{JOB}/splits/<slug:split>", worker_api.SplitView.as_view()),
    path(f"{JOB}/splits/<slug:split>/lines", worker_api.LinesView.as_view()),
]
