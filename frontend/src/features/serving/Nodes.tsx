import { Anchor, Button, Text } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api, reload } from "@/api/client";
import type { Node } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { type Columns, DataTable } from "@/components/DataTable";
import { ListFilters, useStateChoice } from "@/components/ListFilters";
import { Listed, listQuery, useListAddress } from "@/components/listing";
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
  const { state, ...others } = listQuery(address, { kind: KINDS, state: STATES }, ORDERS);
  const asked = { usable_in: slug, online: state && state === "online", ...others };
  const query = api.useQuery(
    "get",
    "/api/v1/nodes",
    { params: { query: asked } },
    { placeholderData: keepPreviousData, refetchInterval: 5000 },
  );
  const forget = api.useMutation("delete", "/api/v1/nodes/{node_id}", {
    onSuccess: () => reload("/api/v1/deployments", "/api/v1/nodes"),
  });
  const columns: Columns<Node> = [
    {
      name: t("serving.node"),
      className: "breakable",
      cell: ({ name, url }) => (
        <>
          {name}
          {url && (
            <Text size="xs" c="dimmed" className="mono" style={{ whiteSpace: "nowrap" }}>
              {url}
            </Text>
          )}
        </>
      ),
    },
    { name: t("serving.kind"), className: "nowrap", cell: ({ kind }) => t(`serving.kinds.${kind}`) },
    { name: t("common.state"), cell: ({ online }) => <StateBadge state={online ? "online" : "offline"} /> },
    { name: t("serving.does"), className: "breakable", cell: (node) => <Does node={node} /> },
    { name: t("serving.hardware"), cell: (node) => <Hardware node={node} /> },
    { name: t("serving.seen"), className: "nowrap", cell: ({ last_seen_at }) => dateTime(last_seen_at) },
    {
      name: "",
      className: "number",
      cell: ({ id, name, online }) =>
        isOwner &&
        !online && (
          <Confirm
            label={t("serving.forget")}
            question={t("serving.forgetQuestion", { name })}
            act={() => forget.mutateAsync({ params: { path: { node_id: id } } })}
            busy={forget.isPending}
            error={forget.error}
            size="compact-sm"
          />
        ),
    },
  ];
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
          useStateChoice(STATES),
        ]}
        orders={ORDERS}
      />
      <Listed
        address={address}
        query={query}
        filtered={Boolean(others.kind || state || others.search)}
        none={{
          title: t("serving.noNodes"),
          text: t("serving.noNodesText"),
          children: (
            <Button component={Link} to={`/w/${slug}/settings`} variant="default">
              {t("serving.toSettings")}
            </Button>
          ),
        }}
      >
        {(rows) => (
          <DataTable label={t("serving.nodes")} rows={rows} columns={columns} keyOf={({ id }) => id} minWidth={860} />
        )}
      </Listed>
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
