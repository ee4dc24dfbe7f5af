"""What workers and serving nodes call with their node token."""

from __future__ import annotations

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.models import ApiToken
from hub.accounts.permissions import IsNode, IsServingNode
from hub.core.messages import read_sent
from hub.serving.services import callers, nodes
from pst_client.contract import Caller, CallerQuery, NodeOrders, NodeRegistered, NodeRegistration, NodeStatus


def _token(request: Request) -> ApiToken:
    if not isinstance(request.auth, ApiToken):
        raise AssertionError("IsNode lets node tokens through only")
    return request.auth


class RegisterView(APIView):
    permission_classes = [IsNode]

    @extend_schema(
        operation_id="registerNode", tags=["node"], request=NodeRegistration, responses={200: NodeRegistered}
    )
    def post(self, request: Request) -> Response:
        """Say who one is when the process starts. The same name with the same token is the same node again."""
        node = nodes.register_node(token=_token(request), registration=read_sent(NodeRegistration, request.data))
        answer = NodeRegistered(node_id=node.id, heartbeat_seconds=settings.NODE_HEARTBEAT_SECONDS)
        return Response(answer.model_dump(mode="json"))


class HeartbeatView(APIView):
    permission_classes = [IsNode]

    @extend_schema(operation_id="nodeHeartbeat", tags=["node"], request=NodeStatus, responses={200: NodeOrders})
    def post(self, request: Request) -> Response:
        """Say what one holds, and learn what one shall hold. 404 unknown_node: register again."""
        orders = nodes.heartbeat(token=_token(request), status=read_sent(NodeStatus, request.data))
        return Response(orders.model_dump(mode="json"))


class CallerView(APIView):
    permission_classes = [IsServingNode]

    @extend_schema(operation_id="findCaller", tags=["node"], request=CallerQuery, responses={200: Caller})
    def post(self, request: Request) -> Response:
        """Whose predict token a serving node was sent, by its sha256. 404 unknown_token: it is not to be answered."""
        caller = callers.find(node_token=_token(request), query=read_sent(CallerQuery, request.data))
        return Response(caller.model_dump(mode="json"))
