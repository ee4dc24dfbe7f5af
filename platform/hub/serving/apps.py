from django.apps import AppConfig


class ServingConfig(AppConfig):
    name = "hub.serving"

    def ready(self) -> None:
        from hub.registry.access import register_guard, register_reader
        from hub.serving import access

        register_reader(access.models_of_node)
        register_guard(access.refuse_deployed)
