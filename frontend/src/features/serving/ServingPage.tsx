import { Accordion, Alert, Anchor, Button, Group, Progress, Stack, Text } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api, reload } from "@/api/client";
import type { Deployment } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { DataTable } from "@/components/DataTable";
import { ErrorNote } from "@/components/ErrorNote";
import { ListFilters } from "@/components/ListFilters";
import { Listed, listQuery, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { Snippets } from "@/components/Snippets";
import { StateBadge } from "@/components/StateBadge";
import { askSnippets } from "@/lib/asking";
import { dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { ChangeDeployment } from "./ChangeDeployment";
import { Nodes } from "./Nodes";
import { rollout } from "./rollout";

const ORDERS = ["-created_at", "created_at", "name"] as const;

export function Component() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const address = useListAddress();
  const asked = { workspace: slug, ...listQuery(address, {}, ORDERS) };
  const deployments = api.useQuery(
    "get",
    "/api/v1/deployments",
    { params: { query: asked } },
    { placeholderData: keepPreviousData, refetchInterval: 3000 },
  );
  return (
    <Page title={t("serving.title")}>
      <Section title={t("serving.deployments")} note={t("serving.deploymentsNote")}>
        <ListFilters address={address} orders={ORDERS} />
        <Listed
          address={address}
          query={deployments}
          filtered={Boolean(asked.search)}
          none={{
            title: t("serving.none"),
            text: t("serving.noneText"),
            children: (
              <Button component={Link} to={`/w/${slug}/models`} variant="default">
                {t("serving.toModels")}
              </Button>
            ),
          }}
        >
          {(rows) => (
            <Stack gap="lg">
              {rows.map((deployment) => (
                <DeploymentView key={deployment.id} deployment={deployment} />
              ))}
            </Stack>
          )}
        </Listed>
      </Section>
      <Nodes />
    </Page>
  );
}

function DeploymentView({ deployment }: { deployment: Deployment }) {
  const { t } = useTranslation();
  const { slug, canEdit } = useWorkspace();
  const after = { onSuccess: () => reload("/api/v1/deployments", "/api/v1/nodes") };
  const remove = api.useMutation("delete", "/api/v1/deployments/{deployment_id}", after);
  const confirm = api.useMutation("patch", "/api/v1/deployments/{deployment_id}", after);
  const name = `${deployment.workspace}/${deployment.name}`;
  const { ready, of } = rollout(deployment);
  const rolledOut = deployment.wanted
    ? t("serving.rollout", { ready, of, version: deployment.wanted.version })
    : t("serving.noVersion", { revision: deployment.revision });
  return (
    <Stack gap="xs" component="article" aria-label={name}>
      <Group justify="space-between" align="flex-start">
        <Stack gap={0}>
          <Group gap="xs">
            <Text fw={600} className="breakable">
              {name}
            </Text>
            <StateBadge state={deployment.ready ? "ready" : "waiting"} />
          </Group>
          <Text size="sm" c="dimmed">
            <Anchor component={Link} to={`/w/${slug}/models/${deployment.model}`} size="sm" underline="always">
              {deployment.model}
            </Anchor>
            @{deployment.revision}
            {deployment.wanted &&
              deployment.revision !== `v${deployment.wanted.version}` &&
              ` → v${deployment.wanted.version}`}{" "}
            · {t("serving.replicas", { count: deployment.replicas })}
          </Text>
        </Stack>
        <Group gap="xs">
          <Button component={Link} to={`/w/${slug}/serving/playground?deployment=${deployment.id}`} size="xs">
            {t("serving.try")}
          </Button>
          {canEdit && (
            <>
              <ChangeDeployment deployment={deployment} />
              <Confirm
                label={t("serving.stop")}
                question={t("serving.stopQuestion", { name })}
                act={() => remove.mutateAsync({ params: { path: { deployment_id: deployment.id } } })}
                busy={remove.isPending}
                error={remove.error}
                size="xs"
              />
            </>
          )}
        </Group>
      </Group>
      {deployment.note && (
        <Alert color="yellow">
          <Text size="sm">{deployment.note}</Text>
          {canEdit && deployment.offered && (
            <Button
              variant="default"
              size="xs"
              mt="xs"
              loading={confirm.isPending}
              onClick={() =>
                confirm.mutate({
                  params: { path: { deployment_id: deployment.id } },
                  body: { revision: deployment.revision },
                })
              }
            >
              {t("serving.moveTo", { version: deployment.offered.version })}
            </Button>
          )}
          {confirm.error && <ErrorNote error={confirm.error} />}
        </Alert>
      )}
      <Stack gap={2}>
        <Progress value={(100 * ready) / of} aria-label={rolledOut} size="sm" />
        <Text size="xs" c="dimmed" className="figure">
          {rolledOut}
        </Text>
      </Stack>
      {deployment.placements.length === 0 ? (
        <Text size="sm">{t("serving.unplaced")}</Text>
      ) : (
        <DataTable
          label={t("serving.placements", { name })}
          rows={deployment.placements}
          columns={[
            { name: t("serving.node"), cell: ({ node }) => node },
            {
              name: t("common.state"),
              cell: ({ online, state, message }) => (
                <>
                  <StateBadge state={online ? state : "offline"} />
                  {message && <Text size="xs">{message}</Text>}
                </>
              ),
            },
            {
              name: t("serving.version"),
              className: "figure",
              cell: ({ version }) => (version == null ? "–" : `v${version}`),
            },
            { name: t("serving.address"), className: "mono breakable", cell: ({ url }) => url },
            { name: t("serving.since"), className: "nowrap", cell: ({ changed_at }) => dateTime(changed_at) },
          ]}
          keyOf={({ node }) => node}
          minWidth={520}
        />
      )}
      {deployment.ready && (
        <Accordion variant="contained">
          <Accordion.Item value="call">
            <Accordion.Control>{t("serving.call")}</Accordion.Control>
            <Accordion.Panel>
              <Snippets snippets={askSnippets(window.location.origin, deployment.id, name)} />
              <Text size="sm" c="dimmed" mt="sm" className="breakable">
                {t("serving.callNote", { path: `/v1/models/${name}/predict` })}
              </Text>
            </Accordion.Panel>
          </Accordion.Item>
        </Accordion>
      )}
    </Stack>
  );
}
