from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        from hub.registry.access import register_reader
        from jobs import access

        register_reader(access.base_model_of_job)
