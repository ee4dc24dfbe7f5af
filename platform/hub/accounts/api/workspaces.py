"""Workspaces, their members, and users."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of
from hub.accounts.api.session import MAX_PASSWORD
from hub.accounts.models import SLUG, Membership, Role, User, Workspace, WorkspaceQuerySet
from hub.accounts.services import users, workspaces


class WorkspaceSerializer(serializers.ModelSerializer[Workspace]):
    slug = serializers.CharField(max_length=39, validators=[SLUG])
    name = serializers.CharField(max_length=100, required=False, allow_blank=True)
    role = serializers.SerializerMethodField(help_text="One's own role there.")

    class Meta:
        model = Workspace
        fields = ["slug", "name", "role", "created_at"]
        read_only_fields = ["created_at"]

    def get_role(self, workspace: Workspace) -> Role:
        return actor_of(self.context["request"]).roles[workspace.id]


class WorkspaceNameSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)


class MemberSerializer(serializers.ModelSerializer[Membership]):
    username = serializers.CharField(source="user.username", max_length=150)
    email = serializers.CharField(source="user.email", read_only=True)
    role = serializers.ChoiceField(choices=Role.choices)

    class Meta:
        model = Membership
        fields = ["username", "email", "role", "created_at"]
        read_only_fields = ["created_at"]


class RoleSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=Role.choices)


class NewUserSerializer(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=MAX_PASSWORD, trim_whitespace=False, write_only=True)
    email = serializers.EmailField(max_length=254, required=False, allow_blank=True)


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ["id", "username", "email", "is_superuser", "is_active"]
        read_only_fields = fields


def find_workspace(request: Request, slug: str) -> Workspace:
    return get_object_or_404(Workspace.objects.visible_to(actor_of(request)), slug=slug)


class WorkspacesView(generics.ListAPIView[Workspace]):
    queryset = Workspace.objects.none()
    serializer_class = WorkspaceSerializer

    def get_queryset(self) -> WorkspaceQuerySet:
        return Workspace.objects.visible_to(actor_of(self.request))

    @extend_schema(operation_id="listWorkspaces", tags=["accounts"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The workspaces that one is a member of."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="createWorkspace",
        tags=["accounts"],
        request=WorkspaceSerializer,
        responses={201: WorkspaceSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a workspace; one owns it."""
        given = WorkspaceSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        actor = actor_of(request)
        workspace = workspaces.create_workspace(
            actor=actor, slug=given.validated_data["slug"], name=given.validated_data.get("name", "")
        )
        answer = {
            "slug": workspace.slug,
            "name": workspace.name,
            "role": Role.OWNER.value,
            "created_at": workspace.created_at,
        }
        return Response(answer, status=status.HTTP_201_CREATED)


class WorkspaceView(APIView):
    @extend_schema(
        operation_id="renameWorkspace",
        tags=["accounts"],
        request=WorkspaceNameSerializer,
        responses=WorkspaceSerializer,
    )
    def patch(self, request: Request, slug: str) -> Response:
        """Change a workspace's name; its slug stays, because it is part of its models' names."""
        workspace = find_workspace(request, slug)
        given = WorkspaceNameSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        workspace = workspaces.rename_workspace(
            actor=actor_of(request), workspace=workspace, name=given.validated_data["name"]
        )
        return Response(WorkspaceSerializer(workspace, context={"request": request}).data)


class MemberFilter(django_filters.FilterSet):
    role = django_filters.ChoiceFilter(choices=Role.choices)
    search = django_filters.CharFilter(method="find", label="In the user name or the e-mail address.")

    class Meta:
        model = Membership
        fields: list[str] = []

    def find(self, members: QuerySet[Membership], name: str, value: str) -> QuerySet[Membership]:
        return members.filter(Q(user__username__icontains=value) | Q(user__email__icontains=value))


class MembersView(generics.ListAPIView[Membership]):
    queryset = Membership.objects.none()
    serializer_class = MemberSerializer
    filterset_class = MemberFilter
    ordering_fields = ["user__username", "created_at"]

    def get_queryset(self) -> Any:
        workspace = find_workspace(self.request, self.kwargs["slug"])
        return Membership.objects.filter(workspace=workspace).select_related("user")

    @extend_schema(operation_id="listMembers", tags=["accounts"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Who is in a workspace, and in which role."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="addMember", tags=["accounts"], request=MemberSerializer, responses={201: MemberSerializer}
    )
    def post(self, request: Request, slug: str) -> Response:
        """Let a user into a workspace."""
        workspace = find_workspace(request, slug)
        given = MemberSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        membership = workspaces.add_member(
            actor=actor_of(request),
            workspace=workspace,
            username=given.validated_data["user"]["username"],
            role=Role(given.validated_data["role"]),
        )
        return Response(MemberSerializer(membership).data, status=status.HTTP_201_CREATED)


class MemberView(APIView):
    @extend_schema(operation_id="changeRole", tags=["accounts"], request=RoleSerializer, responses=MemberSerializer)
    def patch(self, request: Request, slug: str, username: str) -> Response:
        """Give a member another role. A workspace keeps at least one owner."""
        workspace = find_workspace(request, slug)
        given = RoleSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        membership = workspaces.change_role(
            actor=actor_of(request),
            workspace=workspace,
            username=username,
            role=Role(given.validated_data["role"]),
        )
        return Response(MemberSerializer(membership).data)

    @extend_schema(operation_id="removeMember", tags=["accounts"], responses={204: None})
    def delete(self, request: Request, slug: str, username: str) -> Response:
        """Take a member out of a workspace, or leave it; the member's tokens for it end."""
        workspace = find_workspace(request, slug)
        workspaces.remove_member(actor=actor_of(request), workspace=workspace, username=username)
        return Response(status=status.HTTP_204_NO_CONTENT)


class UsersView(APIView):
    @extend_schema(
        operation_id="createUser", tags=["accounts"], request=NewUserSerializer, responses={201: UserSerializer}
    )
    def post(self, request: Request) -> Response:
        """Make a user (superusers only); owners then let the user into their workspaces."""
        given = NewUserSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        user = users.create_user(actor=actor_of(request), **given.validated_data)
        return Response(UserSerializer(user).data, status=status.HTTP_201_CREATED)
