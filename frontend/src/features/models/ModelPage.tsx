import { Anchor, Badge, Button, Group, Select, Text } from "@mantine/core";
import { lazy, type ReactNode, Suspense } from "react";
import { useTranslation } from "react-i18next";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";
import { api, reload } from "@/api/client";
import type { Model, Version, VersionRow } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { type Columns, DataTable } from "@/components/DataTable";
import { Empty } from "@/components/Empty";
import { Loaded } from "@/components/Loaded";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { Snippets } from "@/components/Snippets";
import { askSnippets } from "@/lib/asking";
import { bytes, dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { AliasBadges } from "./AliasBadges";
import { Aliases } from "./Aliases";
import { Deploy } from "./Deploy";
import { Lineage } from "./Lineage";
import { Overview } from "./Overview";
import { snippets } from "./snippets";

/** Markdown is only needed here, and last. */
const ModelCard = lazy(() => import("./ModelCard"));

export function Component() {
  const { ns = "", name = "" } = useParams();
  const path = { namespace: ns, name };
  const model = api.useQuery("get", "/api/v1/models/{namespace}/{name}", { params: { path } });
  const versions = api.useQuery("get", "/api/v1/models/{namespace}/{name}/versions", {
    params: { path, query: { page_size: 200 } },
  });
  return (
    <Loaded query={model}>
      {(data) => <Loaded query={versions}>{(list) => <ModelView model={data} versions={list.results} />}</Loaded>}
    </Loaded>
  );
}

function ModelView({ model, versions }: { model: Model; versions: VersionRow[] }) {
  const { t } = useTranslation();
  const { slug, canEdit, isOwner } = useWorkspace();
  const navigate = useNavigate();
  const [params, setParams] = useSearchParams();
  const version = versions.find(({ number }) => String(number) === params.get("version")) ?? versions[0];
  const own = model.workspace === slug;
  const path = { namespace: model.workspace, name: model.name };
  const remove = api.useMutation("delete", "/api/v1/models/{namespace}/{name}", {
    onSuccess: async () => {
      await navigate(`/w/${slug}/models`);
      await reload("/api/v1/models");
    },
  });
  const versionColumns: Columns<VersionRow> = [
    { name: t("models.version"), className: "figure", cell: ({ number }) => `v${number}` },
    { name: t("models.commit"), className: "mono", cell: ({ commit }) => commit.slice(0, 12) },
    { name: t("models.aliases"), cell: ({ aliases }) => <AliasBadges names={aliases} /> },
    { name: t("models.compact"), className: "number", cell: (entry) => bytes(entry.bytes.compact) },
    { name: t("models.dense"), className: "number", cell: (entry) => bytes(entry.bytes.dense) },
    {
      name: t("models.from"),
      cell: ({ job_id, created_by }) =>
        job_id && own ? (
          <Anchor component={Link} to={`/w/${slug}/jobs/${job_id}`} size="sm">
            {t("models.job")}
          </Anchor>
        ) : (
          (created_by ?? "–")
        ),
    },
    { name: t("common.created"), className: "nowrap", cell: ({ created_at }) => dateTime(created_at) },
  ];
  const actions = (
    <>
      {canEdit && version && model.kind === "sparse" && <Deploy model={model} />}
      {own && isOwner && (
        <Confirm
          label={t("common.delete")}
          question={t("models.deleteQuestion", { repo: model.repo, count: versions.length })}
          act={() => remove.mutateAsync({ params: { path } })}
          busy={remove.isPending}
          error={remove.error}
        />
      )}
    </>
  );
  return (
    <Page
      title={model.repo}
      above={[{ label: t("models.title"), to: `/w/${slug}/models` }]}
      badge={
        <Badge variant="light" tt="none">
          {t(`models.kinds.${model.kind}`)}
        </Badge>
      }
      note={model.description}
      actions={actions}
    >
      {!version ? (
        <Empty title={t("models.noVersion")} text={t("models.noVersionText")} />
      ) : (
        <>
          <Whole model={model} number={version.number}>
            {(whole) => <Overview model={model} version={whole} workspace={slug} />}
          </Whole>
          <Section title={t("models.versions")}>
            <DataTable
              label={t("models.versions")}
              rows={versions}
              columns={versionColumns}
              keyOf={({ number }) => number}
              minWidth={620}
              highlightOnHover
            />
          </Section>
          {own && <Aliases model={model} versions={versions} />}
          {versions.length > 1 && (
            <Select
              label={t("models.shown")}
              data={versions.map(({ number }) => ({ value: String(number), label: `v${number}` }))}
              value={String(version.number)}
              onChange={(number) => number && setParams({ version: number }, { replace: true })}
              allowDeselect={false}
              w={160}
            />
          )}
          <Whole model={model} number={version.number}>
            {(whole) => <VersionDetail model={model} version={whole} />}
          </Whole>
        </>
      )}
    </Page>
  );
}

interface WholeProps {
  model: Model;
  number: number;
  children: (version: Version) => ReactNode;
}

/** A version with its report, which is asked for once. */
function Whole({ model, number, children }: WholeProps) {
  const whole = api.useQuery(
    "get",
    "/api/v1/models/{namespace}/{name}/versions/{number}",
    { params: { path: { namespace: model.workspace, name: model.name, number } } },
    { staleTime: Number.POSITIVE_INFINITY },
  );
  return <Loaded query={whole}>{children}</Loaded>;
}

function VersionDetail({ model, version }: { model: Model; version: Version }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const deployments = api.useQuery("get", "/api/v1/deployments", {
    params: { query: { workspace: slug, model: model.repo, page_size: 1 } },
  });
  const deployment = deployments.data?.results[0];
  const files = `/api/v1/models/${model.repo}/versions/${version.number}`;
  return (
    <>
      <Section
        title={t("models.files", { number: version.number })}
        note={t("models.filesTotal", { count: version.files.length, size: bytes(version.bytes.total) })}
        actions={
          <Group gap="xs">
            {(["tar", "zip"] as const).map((format) => (
              <Button key={format} component="a" href={`${files}/archive?format=${format}`} variant="default" size="xs">
                {t("models.archive", { format })}
              </Button>
            ))}
          </Group>
        }
      >
        <Text size="sm" className="mono breakable">
          {t("models.commit")} {version.commit}
        </Text>
        <DataTable
          label={t("models.files", { number: version.number })}
          rows={version.files}
          columns={[
            {
              name: t("models.file"),
              cell: ({ path }) => (
                <Anchor
                  href={`${files}/files/${path.split("/").map(encodeURIComponent).join("/")}`}
                  download
                  size="sm"
                  className="breakable"
                >
                  {path}
                </Anchor>
              ),
            },
            { name: t("models.size"), className: "number", cell: ({ size }) => bytes(size) },
            { name: "sha256", className: "mono breakable", cell: ({ sha256 }) => sha256 },
          ]}
          keyOf={({ path }) => path}
          minWidth={520}
        />
      </Section>
      <Section title={t("models.use")}>
        <Snippets
          snippets={snippets(
            window.location.origin,
            model.repo,
            version.aliases[0] ?? `v${version.number}`,
            version.architecture,
            version.files.map(({ path }) => path).filter((path) => /^sparse\/.*\.safetensors$/.test(path)),
          )}
        />
      </Section>
      {deployment && (
        <Section title={t("models.ask", { name: `${deployment.workspace}/${deployment.name}` })}>
          <Snippets
            snippets={askSnippets(window.location.origin, deployment.id, `${deployment.workspace}/${deployment.name}`)}
          />
        </Section>
      )}
      <Lineage model={model} version={version} workspace={slug} />
      <Section title={t("models.card")}>
        <Suspense fallback={null}>
          <ModelCard card={version.card ?? ""} />
        </Suspense>
      </Section>
    </>
  );
}
