import { Table, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { api, reload } from "@/api/client";
import { Confirm } from "@/components/Confirm";
import { Empty } from "@/components/Empty";
import { Loaded } from "@/components/Loaded";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { bytes, dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";

/** Workers and serving nodes that this workspace can use. */
export function Nodes() {
  const { t } = useTranslation();
  const { slug, isOwner } = useWorkspace();
  const query = api.useQuery(
    "get",
    "/api/v1/nodes",
    { params: { query: { page_size: 200 } } },
    { refetchInterval: 5000 },
  );
  const forget = api.useMutation("delete", "/api/v1/nodes/{node_id}", {
    onSuccess: () => reload("/api/v1/deployments", "/api/v1/nodes"),
  });
  return (
    <Section title={t("serving.nodes")} note={t("serving.nodesNote")}>
      <Loaded query={query}>
        {(list) => {
          const mine = list.results.filter(({ workspace }) => workspace === null || workspace === slug);
          return mine.length === 0 ? (
            <Empty title={t("serving.noNodes")} text={t("serving.noNodesText")} />
          ) : (
            <Table.ScrollContainer minWidth={680}>
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
                  {mine.map((node) => (
                    <Table.Tr key={node.id}>
                      <Table.Td className="breakable">
                        {node.name}
                        {node.url && (
                          <Text size="xs" c="dimmed" className="mono">
                            {node.url}
                          </Text>
                        )}
                      </Table.Td>
                      <Table.Td>{t(`serving.kinds.${node.kind}`)}</Table.Td>
                      <Table.Td>
                        <StateBadge state={node.online ? "online" : "offline"} />
                      </Table.Td>
                      <Table.Td className="breakable">
                        {node.kind === "worker"
                          ? t("serving.queues", { queues: node.queues.join(", ") })
                          : node.holds
                              .map(
                                ({ name, version, state }) =>
                                  `${name}${version == null ? "" : ` v${version}`} (${t(`state.${state}`)})`,
                              )
                              .join(", ") || "–"}
                      </Table.Td>
                      <Table.Td>
                        <Text size="xs" className="breakable">
                          {facts({ ...node.hardware, ...node.load })}
                        </Text>
                        {node.profile && (
                          <Text size="xs" c="dimmed">
                            {t("serving.measured", {
                              device: node.profile.device,
                              threads: node.profile.threads,
                              when: dateTime(node.profile.measured_at),
                            })}
                          </Text>
                        )}
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
          );
        }}
      </Loaded>
    </Section>
  );
}

/** What a node says of itself, in its own words: each kind of node knows other things. */
function facts(values: Record<string, unknown>): string {
  return Object.entries(values)
    .filter(([, value]) => typeof value !== "object" && value !== "")
    .map(([name, value]) =>
      name.endsWith("_bytes") && typeof value === "number"
        ? `${name.slice(0, -"_bytes".length).replaceAll("_", " ")}: ${bytes(value)}`
        : `${name.replaceAll("_", " ")}: ${String(value)}`,
    )
    .join(" · ");
}
