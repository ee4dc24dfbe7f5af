import { Anchor, SegmentedControl, Text } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { ModelRow, VersionRow } from "@/api/types";
import { type Columns, DataTable } from "@/components/DataTable";
import { ListFilters } from "@/components/ListFilters";
import { Listed, listQuery, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { bytes, dateTime, isShare, percent, real } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { AliasBadges } from "./AliasBadges";

const ORDERS = ["-created_at", "created_at", "name"] as const;

/** A version's measure, with its name and what the dense model reached. */
function Headline({ of }: { of: VersionRow["headline"] | undefined }) {
  const { t } = useTranslation();
  if (!of) return "–";
  const shown = (value: number) => (isShare(of.metric) ? percent(value) : real(value));
  const metric = t(`metricName.${of.metric}` as "metricName.accuracy", {
    defaultValue: of.metric.replaceAll("_", " "),
  });
  return (
    <>
      {shown(of.value)}
      <Text size="xs" c="dimmed">
        {metric}
        {of.dense !== null && ` · ${t("models.denseReached", { value: shown(of.dense) })}`}
      </Text>
    </>
  );
}

export function Component() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const address = useListAddress();
  const { get, set } = address;
  const kind = get("kind") === "base" ? "base" : "sparse";
  // Base models belong to the installation, so they are shown in every workspace.
  const asked = { workspace: kind === "base" ? undefined : slug, kind, ...listQuery(address, {}, ORDERS) } as const;
  const query = api.useQuery(
    "get",
    "/api/v1/models",
    { params: { query: asked } },
    { placeholderData: keepPreviousData },
  );
  const sparse = kind === "sparse";
  const columns: Columns<ModelRow> = [
    {
      name: t("models.name"),
      cell: ({ repo }) => (
        <Anchor component={Link} to={`/w/${slug}/models/${repo}`} className="breakable">
          {repo}
        </Anchor>
      ),
    },
    {
      name: t("models.latest"),
      className: "figure",
      cell: ({ latest }) => (latest ? `v${latest.number}` : "–"),
    },
    sparse && {
      name: t("models.quality"),
      className: "number",
      cell: ({ latest }) => <Headline of={latest?.headline} />,
    },
    sparse && {
      name: t("plan.sparsity"),
      className: "number",
      cell: ({ latest }) => percent(latest?.headline?.sparsity),
    },
    sparse && { name: t("models.compact"), className: "number", cell: ({ latest }) => bytes(latest?.bytes.compact) },
    { name: t("models.dense"), className: "number", cell: ({ latest }) => bytes(latest?.bytes.dense) },
    {
      name: t("models.aliases"),
      cell: ({ aliases }) => <AliasBadges names={aliases.map(({ name, version }) => `${name} → v${version}`)} />,
    },
    { name: t("common.created"), className: "nowrap", cell: ({ created_at }) => dateTime(created_at) },
  ];
  return (
    <Page title={t("models.title")}>
      <Section title={t("models.all")}>
        <ListFilters address={address} orders={ORDERS}>
          <SegmentedControl
            aria-label={t("models.kind")}
            data={(["sparse", "base"] as const).map((value) => ({ value, label: t(`models.kinds.${value}`) }))}
            value={kind}
            onChange={(value) => set("kind", value === "sparse" ? "" : value)}
          />
        </ListFilters>
        <Listed
          address={address}
          query={query}
          filtered={Boolean(asked.search)}
          none={{ title: t("models.none"), text: t(`models.noneText.${kind}`) }}
        >
          {(rows) => (
            <DataTable
              rows={rows}
              columns={columns}
              keyOf={({ repo }) => repo}
              minWidth={sparse ? 860 : 620}
              highlightOnHover
            />
          )}
        </Listed>
      </Section>
    </Page>
  );
}
