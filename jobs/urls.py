from django.urls import URLPattern, path

from jobs.api import estimates, jobs, worker

JOB = "worker/jobs/<uuid:job_id>"

urlpatterns: list[URLPattern] = [
    path("estimates", estimates.EstimatesView.as_view()),
    path("jobs", jobs.JobsView.as_view()),
    path("jobs/<uuid:job_id>", jobs.JobView.as_view()),
    path("jobs/<uuid:job_id>/cancel", jobs.CancelView.as_view()),
    path("jobs/<uuid:job_id>/pause", jobs.PauseView.as_view()),
    path("jobs/<uuid:job_id>/resume", jobs.ResumeView.as_view()),
    path("jobs/<uuid:job_id>/retry", jobs.RetryView.as_view()),
    path("jobs/<uuid:job_id>/events", jobs.JobEventsView.as_view()),
    path("jobs/<uuid:job_id>/report", jobs.JobReportView.as_view()),
    path("worker/next", worker.NextView.as_view()),
    path(f"{JOB}/claim", worker.ClaimView.as_view()),
    path(f"{JOB}/heartbeat", worker.HeartbeatView.as_view()),
    path(f"{JOB}/events", worker.EventsView.as_view()),
    path(f"{JOB}/checkpoint", worker.CheckpointView.as_view()),
    path(f"{JOB}/finish", worker.FinishView.as_view()),
    path(f"{JOB}/release", worker.ReleaseView.as_view()),
    path(f"{JOB}/artifacts/<str:sha256>", worker.ArtifactView.as_view()),
    path(f"{JOB}/splits/<slug:split>", worker.SplitView.as_view()),
    path(f"{JOB}/splits/<slug:split>/lines", worker.LinesView.as_view()),
]
