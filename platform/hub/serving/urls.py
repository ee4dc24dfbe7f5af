from django.urls import URLPattern, path

from hub.serving.api import deployments, node, nodes, playground

urlpatterns: list[URLPattern] = [
    path("nodes", nodes.NodesView.as_view()),
    path("nodes/<uuid:node_id>", nodes.NodeView.as_view()),
    path("nodes/<uuid:node_id>/profile", nodes.NodeProfileView.as_view()),
    path("deployments", deployments.DeploymentsView.as_view()),
    path("deployments/<uuid:deployment_id>", deployments.DeploymentView.as_view()),
    path("deployments/<uuid:deployment_id>/predict", playground.PredictView.as_view()),
    path("deployments/<uuid:deployment_id>/token", deployments.CallerTokenView.as_view()),
    path("node/register", node.RegisterView.as_view()),
    path("node/heartbeat", node.HeartbeatView.as_view()),
    path("node/caller", node.CallerView.as_view()),
]
