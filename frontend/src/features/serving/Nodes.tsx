import { Anchor, Button, Table, Text } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api, reload } from "@/api/client";
import type { Node } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { Empty } from "@/components/Empty";
import { ListFilters } from "@/components/ListFilters";
import { Loaded } from "@/components/Loaded";
import { PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { bytes, dateTime, percent, real } from "@/lib/format";
import { textOf } from "@/lib/tree";
import { useWorkspace } from "@/session/session";
import { machineOf } from "./nodeFacts";

const KINDS = ["serve", "worker"] as const;
const STATES = ["online", "offline"] as const;
const ORDERS = ["kind", "name", "-last_seen_at"] as const;

/** Workers and serving nodes that this workspace can use. */
export function Nodes() {
  const { t } = useTranslation();
  const { slug, isOwner } = useWorkspace();
  const address = useListAddress("nodes-");
  const { get, page, set } = address;
  const kind = KINDS.find((known) => known === get("kind"));
  const state = STATES.find((known) => known === get("state"));
  const ordering = ORDERS.find((known) => known === get("ordering"));
  const search = get("search") || undefined;
  const online = state && state === "online";
  const asked = { usable_in: slug, kind, online, ordering, search, page, page_size: PAGE_SIZE };
  const query = api.useQuery(
    "get",
    "/api/v1/nodes",
    { params: { query: asked } },
    { placeholderData: keepPreviousData, refetchInterval: 5000 },
  );
  const forget = api.useMutation("delete", "/api/v1/nodes/{node_id}", {
    onSuccess: () => reload("/api/v1/deployments", "/api/v1/nodes"),
  });
  return (
    <Section title={t("serving.nodes")} note={t("serving.nodesNote")}>
      <ListFilters
        address={address}
        choices={[
          {
            name: "kind",
            label: t("serving.kind"),
            any: t("serving.anyKind"),
            options: KINDS.map((value) => ({ value, label: t(`serving.kinds.${value}`) })),
          },
          {
            name: "state",
            label: t("common.state"),
            any: t("common.anyState"),
            options: STATES.map((value) => ({ value, label: t(`state.${value}`) })),
          },
        ]}
        orders={ORDERS}
      />
      <Loaded query={query}>
        {(list) =>
          list.count === 0 ? (
            kind || state || search ? (
              <Empty title={t("common.noneMatches")} text={t("common.noneMatchesText")} />
            ) : (
              <Empty title={t("serving.noNodes")} text={t("serving.noNodesText")}>
                <Button component={Link} to={`/w/${slug}/settings`} variant="default">
                  {t("serving.toSettings")}
                </Button>
              </Empty>
            )
          ) : (
            <>
              <Table.ScrollContainer minWidth={860}>
                <Table aria-label={t("serving.nodes")}>
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th>{t("serving.node")}</Table.Th>
                      <Table.Th>{t("serving.kind")}</Table.Th>
                      <Table.Th>{t("common.state")}</Table.Th>
                      <Table.Th>{t("serving.does")}</Table.Th>
                      <Table.Th>{t("serving.hardware")}</Table.Th>
                      <Table.Th className="nowrap">{t("serving.seen")}</Table.Th>
                      <Table.Td />
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {list.results.map((node) => (
                      <Table.Tr key={node.id}>
                        <Table.Td className="breakable">
                          {node.name}
                          {node.url && (
                            <Text size="xs" c="dimmed" className="mono" style={{ whiteSpace: "nowrap" }}>
                              {node.url}
                            </Text>
                          )}
                        </Table.Td>
                        <Table.Td className="nowrap">{t(`serving.kinds.${node.kind}`)}</Table.Td>
                        <Table.Td>
                          <StateBadge state={node.online ? "online" : "offline"} />
                        </Table.Td>
                        <Table.Td className="breakable">
                          <Does node={node} />
                        </Table.Td>
                        <Table.Td>
                          <Hardware node={node} />
                        </Table.Td>
                        <Table.Td className="nowrap">{dateTime(node.last_seen_at)}</Table.Td>
                        <Table.Td className="number">
                          {isOwner && !node.online && (
                            <Confirm
                              label={t("serving.forget")}
                              question={t("serving.forgetQuestion", { name: node.name })}
                              act={() => forget.mutateAsync({ params: { path: { node_id: node.id } } })}
                              busy={forget.isPending}
                              error={forget.error}
                              size="compact-sm"
                            />
                          )}
                        </Table.Td>
                      </Table.Tr>
                    ))}
                  </Table.Tbody>
                </Table>
              </Table.ScrollContainer>
              <Pager count={list.count} page={page} onPage={(next) => set("page", String(next))} />
            </>
          )
        }
      </Loaded>
    </Section>
  );
}

/** What it holds or waits for. */
function Does({ node }: { node: Node }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  if (node.kind === "serve") {
    if (node.holds.length === 0) return "–";
    return node.holds.map(({ deployment, name, version, state, message }) => (
      <div key={deployment}>
        {name}
        {version != null && ` v${version}`} ({t(`state.${state}`)}){message && <Text size="xs">{message}</Text>}
      </div>
    ));
  }
  const job = textOf(node.load.job_id);
  return (
    <>
      {node.online &&
        (job ? (
          <Anchor component={Link} to={`/w/${slug}/jobs/${job}`} size="sm">
            {t("serving.busy")}
          </Anchor>
        ) : (
          t("serving.idle")
        ))}
      <Text size="xs" c="dimmed">
        {t("serving.queues", { queues: node.queues.join(", ") })}
      </Text>
    </>
  );
}

/** The machine, and how much of it is in use; an offline node's load is of no use. */
function Hardware({ node }: { node: Node }) {
  const { t } = useTranslation();
  const machine = machineOf(node.hardware, node.load);
  const facts = [
    machine.cpus !== null && t("serving.cpus", { count: machine.cpus }),
    machine.memory !== null &&
      (node.online && machine.available !== null
        ? t("serving.memoryFree", { free: bytes(machine.available), memory: bytes(machine.memory) })
        : t("serving.memory", { memory: bytes(machine.memory) })),
    node.online && machine.cpuLoad !== null && t("serving.cpuLoad", { load: real(machine.cpuLoad) }),
    node.online && machine.utilisation !== null && t("serving.gpuLoad", { share: percent(machine.utilisation, 0) }),
  ].filter((fact) => typeof fact === "string");
  return (
    <>
      <Text size="xs" className="breakable">
        {machine.device || "–"}
      </Text>
      <Text size="xs" className="figure">
        {facts.join(" · ")}
      </Text>
      {node.profile && (
        <Text size="xs" c="dimmed">
          {t("serving.measured", {
            threads: node.profile.threads,
            when: dateTime(node.profile.measured_at),
          })}
        </Text>
      )}
    </>
  );
}
