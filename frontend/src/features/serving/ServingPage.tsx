import { Accordion, Alert, Anchor, Button, Group, Progress, Stack, Table, Text } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api, reload } from "@/api/client";
import type { Deployment } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { Empty } from "@/components/Empty";
import { ErrorNote } from "@/components/ErrorNote";
import { ListFilters } from "@/components/ListFilters";
import { Loaded } from "@/components/Loaded";
import { PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
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
  const { get, page, set } = address;
  const ordering = ORDERS.find((known) => known === get("ordering"));
  const search = get("search");
  const deployments = api.useQuery(
    "get",
    "/api/v1/deployments",
    { params: { query: { workspace: slug, ordering, search: search || undefined, page, page_size: PAGE_SIZE } } },
    { placeholderData: keepPreviousData, refetchInterval: 3000 },
  );
  return (
    <Page title={t("serving.title")}>
      <Section title={t("serving.deployments")} note={t("serving.deploymentsNote")}>
        <ListFilters address={address} orders={ORDERS} />
        <Loaded query={deployments}>
          {(list) =>
            list.count === 0 && search ? (
              <Empty title={t("common.noneMatches")} text={t("common.noneMatchesText")} />
            ) : list.count === 0 ? (
              <Empty title={t("serving.none")} text={t("serving.noneText")}>
                <Button component={Link} to={`/w/${slug}/models`} variant="default">
                  {t("serving.toModels")}
                </Button>
              </Empty>
            ) : (
              <Stack gap="lg">
                {list.results.map((deployment) => (
                  <DeploymentView key={deployment.id} deployment={deployment} />
                ))}
                <Pager count={list.count} page={page} onPage={(next) => set("page", String(next))} />
              </Stack>
            )
          }
        </Loaded>
      </Section>
      <Nodes />
    </Page>
  );
}

function DeploymentView({ deployment }: { deployment: Deployment }) {
  const { t } = useTranslation();
  const { slug, canEdit } = useWorkspace();
  const remove = api.useMutation("delete", "/api/v1/deployments/{deployment_id}", {
    onSuccess: () => reload("/api/v1/deployments", "/api/v1/nodes"),
  });
  const confirm = api.useMutation("patch", "/api/v1/deployments/{deployment_id}", {
    onSuccess: () => reload("/api/v1/deployments", "/api/v1/nodes"),
  });
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
            {deployment.wanted && ` → v${deployment.wanted.version}`} ·{" "}
            {t("serving.replicas", { count: deployment.replicas })}
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
        <Table.ScrollContainer minWidth={520}>
          <Table aria-label={t("serving.placements", { name })}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{t("serving.node")}</Table.Th>
                <Table.Th>{t("common.state")}</Table.Th>
                <Table.Th>{t("serving.version")}</Table.Th>
                <Table.Th>{t("serving.address")}</Table.Th>
                <Table.Th className="nowrap">{t("serving.since")}</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {deployment.placements.map((placement) => (
                <Table.Tr key={placement.node}>
                  <Table.Td>{placement.node}</Table.Td>
                  <Table.Td>
                    <StateBadge state={placement.online ? placement.state : "offline"} />
                    {placement.message && <Text size="xs">{placement.message}</Text>}
                  </Table.Td>
                  <Table.Td className="figure">{placement.version == null ? "–" : `v${placement.version}`}</Table.Td>
                  <Table.Td className="mono breakable">{placement.url}</Table.Td>
                  <Table.Td className="nowrap">{dateTime(placement.changed_at)}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
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
