"""Webhooks and their deliveries."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of, workspace_of
from hub.accounts.models import DeliveryState, Role, Webhook, WebhookDelivery, WebhookQuerySet
from hub.accounts.services import webhooks
from hub.core.fields import SentenceField

EVENTS = [(event.value, event.value) for event in webhooks.WebhookEvent]


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    workspace = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    events = serializers.ListField(child=serializers.ChoiceField(choices=EVENTS), read_only=True)
    created_by = serializers.SlugRelatedField[Any](slug_field="username", read_only=True, allow_null=True)

    class Meta:
        model = Webhook
        fields = ["id", "workspace", "url", "events", "created_by", "created_at"]
        read_only_fields = fields


class NewWebhookSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(max_length=500, help_text="http:// or https://, at a public address.")
    events = serializers.ListField(child=serializers.ChoiceField(choices=EVENTS), allow_empty=False, max_length=20)
    workspace = serializers.CharField(max_length=39, required=False, help_text="Its slug; needed if you have several.")


class IssuedWebhookSerializer(WebhookSerializer):
    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]
        read_only_fields = fields
        extra_kwargs = {"secret": {"help_text": "Signs the deliveries; it is shown this once."}}


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    event = serializers.ChoiceField(choices=EVENTS, read_only=True)
    state = serializers.ChoiceField(choices=DeliveryState.choices, read_only=True)
    error = SentenceField()

    class Meta:
        model = WebhookDelivery
        fields = ["id", "event", "state", "attempts", "status_code", "error", "created_at", "due_at"]
        read_only_fields = fields


class WebhooksView(generics.ListAPIView[Webhook]):
    queryset = Webhook.objects.none()
    serializer_class = WebhookSerializer
    filter_backends = []

    def get_queryset(self) -> WebhookQuerySet:
        found = Webhook.objects.visible_to(actor_of(self.request)).select_related("workspace", "created_by")
        if "workspace" in self.request.query_params:
            found = found.filter(workspace=workspace_of(self.request, role=Role.OWNER))
        return found

    @extend_schema(
        operation_id="listWebhooks",
        tags=["accounts"],
        parameters=[OpenApiParameter("workspace", description="A slug.")],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The webhooks of the workspaces that one owns."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="createWebhook",
        tags=["accounts"],
        request=NewWebhookSerializer,
        responses={201: IssuedWebhookSerializer},
    )
    def post(self, request: Request) -> Response:
        """Have an address told of events. The answer holds the secret that signs the deliveries, this once."""
        workspace = workspace_of(request, role=Role.OWNER)
        given = NewWebhookSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        webhook = webhooks.create_webhook(
            actor=actor_of(request),
            workspace=workspace,
            url=given.validated_data["url"],
            events=given.validated_data["events"],
        )
        return Response(IssuedWebhookSerializer(webhook).data, status=status.HTTP_201_CREATED)


class WebhookView(APIView):
    @extend_schema(operation_id="deleteWebhook", tags=["accounts"], responses={204: None})
    def delete(self, request: Request, webhook_id: UUID) -> Response:
        """Delete a webhook; what is on its way to it is dropped."""
        actor = actor_of(request)
        webhook = get_object_or_404(Webhook.objects.visible_to(actor), pk=webhook_id)
        webhooks.delete_webhook(actor=actor, webhook=webhook)
        return Response(status=status.HTTP_204_NO_CONTENT)


class DeliveriesView(generics.ListAPIView[WebhookDelivery]):
    queryset = WebhookDelivery.objects.none()
    serializer_class = DeliverySerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        webhook = get_object_or_404(Webhook.objects.visible_to(actor_of(self.request)), pk=self.kwargs["webhook_id"])
        return WebhookDelivery.objects.filter(webhook=webhook)

    @extend_schema(operation_id="listDeliveries", tags=["accounts"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What was sent to a webhook in the last 30 days, newest first, and how it ended."""
        return super().get(request, *args, **kwargs)
