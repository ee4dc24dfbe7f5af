import { Anchor, Button } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link, useNavigate } from "react-router";
import { api, reload } from "@/api/client";
import type { DatasetListed } from "@/api/types";
import { type Columns, DataTable } from "@/components/DataTable";
import { ErrorNote } from "@/components/ErrorNote";
import { ListFilters, useStateChoice } from "@/components/ListFilters";
import { Listed, listQuery, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { count, dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";

const STATES = ["validating", "ready", "invalid"] as const;
const ORDERS = ["-created_at", "created_at", "name", "state"] as const;

export function Component() {
  const { t } = useTranslation();
  const { slug, canEdit } = useWorkspace();
  const address = useListAddress();
  const asked = { workspace: slug, ...listQuery(address, { state: STATES }, ORDERS) };
  const query = api.useQuery(
    "get",
    "/api/v1/datasets",
    { params: { query: asked } },
    {
      placeholderData: keepPreviousData,
      refetchInterval: ({ state: { data } }) =>
        data?.results.some((dataset) => dataset.state === "validating") ? 1500 : false,
    },
  );
  const columns: Columns<DatasetListed> = [
    {
      name: t("datasets.name"),
      cell: ({ id, name }) => (
        <Anchor component={Link} to={`/w/${slug}/datasets/${id}`} className="breakable">
          {name}
        </Anchor>
      ),
    },
    { name: t("common.state"), cell: ({ state }) => <StateBadge state={state} /> },
    {
      name: t("datasets.rows"),
      className: "number",
      cell: ({ splits }) => (splits.length > 0 ? count(splits.reduce((sum, { rows }) => sum + rows, 0)) : "–"),
    },
    { name: t("datasets.classes"), className: "number", cell: ({ labels }) => labels.length || "–" },
    { name: t("common.created"), className: "nowrap", cell: ({ created_at }) => dateTime(created_at) },
  ];
  const buttons = canEdit && (
    <>
      <SampleButton workspace={slug} />
      <Button component={Link} to={`/w/${slug}/datasets/new`}>
        {t("datasets.upload")}
      </Button>
    </>
  );

  return (
    <Page title={t("datasets.title")} actions={buttons}>
      <Section title={t("datasets.all")}>
        <ListFilters address={address} choices={[useStateChoice(STATES)]} orders={ORDERS} />
        <Listed
          address={address}
          query={query}
          filtered={Boolean(asked.state || asked.search)}
          none={{ title: t("datasets.none"), text: t("datasets.noneText") }}
        >
          {(rows) => <DataTable rows={rows} columns={columns} keyOf={({ id }) => id} minWidth={560} highlightOnHover />}
        </Listed>
      </Section>
    </Page>
  );
}

function SampleButton({ workspace }: { workspace: string }) {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const add = api.useMutation("post", "/api/v1/datasets/sample", {
    onSuccess: async (dataset) => {
      await reload("/api/v1/datasets");
      await navigate(`/w/${workspace}/datasets/${dataset.id}`);
    },
  });
  return (
    <>
      <Button variant="default" loading={add.isPending} onClick={() => add.mutate({ body: { workspace } })}>
        {t("datasets.sample")}
      </Button>
      {add.error && <ErrorNote error={add.error} />}
    </>
  );
}
