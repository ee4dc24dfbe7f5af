import { Alert, Badge, Button, Group, List, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Link, useNavigate, useParams } from "react-router";
import { api, reload } from "@/api/client";
import type { Dataset } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { Loaded } from "@/components/Loaded";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { StateBadge } from "@/components/StateBadge";
import { bytes, dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { ClassBalance } from "./ClassBalance";
import { ErrorTable } from "./ErrorTable";
import { ReadAgain } from "./ReadAgain";
import { ReportSummary } from "./ReportSummary";
import { Rows } from "./Rows";
import { fullReport } from "./report";

export function Component() {
  const { id = "" } = useParams();
  const query = api.useQuery(
    "get",
    "/api/v1/datasets/{dataset_id}",
    { params: { path: { dataset_id: id } } },
    { refetchInterval: ({ state: { data } }) => (data?.state === "validating" ? 1000 : false) },
  );
  return <Loaded query={query}>{(dataset) => <DatasetView dataset={dataset} />}</Loaded>;
}

function DatasetView({ dataset }: { dataset: Dataset }) {
  const { t } = useTranslation();
  const { slug, canEdit, isOwner } = useWorkspace();
  const navigate = useNavigate();
  const list = `/w/${slug}/datasets`;
  const report = fullReport(dataset.report);
  const remove = api.useMutation("delete", "/api/v1/datasets/{dataset_id}", {
    onSuccess: async () => {
      await navigate(list);
      await reload("/api/v1/datasets");
    },
  });
  const actions = (
    <>
      {canEdit && dataset.state === "ready" && (
        <Button component={Link} to={`/w/${slug}/jobs/new?dataset=${dataset.id}`}>
          {t("datasets.train")}
        </Button>
      )}
      {canEdit && dataset.state !== "validating" && <ReadAgain dataset={dataset} />}
      {isOwner && (
        <Confirm
          label={t("common.delete")}
          question={t("datasets.deleteQuestion", { name: dataset.name })}
          act={() => remove.mutateAsync({ params: { path: { dataset_id: dataset.id } } })}
          busy={remove.isPending}
          error={remove.error}
        />
      )}
    </>
  );
  return (
    <Page
      title={dataset.name}
      above={[{ label: t("datasets.title"), to: list }]}
      badge={
        <>
          <StateBadge state={dataset.state} />
          <Badge variant="light" color="gray" tt="none">
            {t(`task.${dataset.task}`)}
          </Badge>
        </>
      }
      note={t("datasets.madeBy", { who: dataset.created_by ?? "–", when: dateTime(dataset.created_at) })}
      actions={actions}
    >
      <div aria-live="polite" className="live">
        {dataset.state === "validating" && <Alert color="blue">{t("datasets.validating")}</Alert>}
        {dataset.state === "invalid" && (
          <Alert color="red" title={t("datasets.invalid")}>
            {t("datasets.invalidText")}
          </Alert>
        )}
      </div>
      {dataset.errors.length > 0 && <ErrorTable dataset={dataset} />}
      {report && (
        <>
          <ReportSummary report={report} />
          {dataset.labels.length > 0 && <ClassBalance report={report} />}
        </>
      )}
      {dataset.state === "ready" && <Rows dataset={dataset} />}
      <Section title={t("datasets.filesTitle")}>
        <List size="sm" spacing={2}>
          {dataset.files.map((file) => (
            <List.Item key={file.split}>
              <span className="breakable">
                {t(`split.${file.split}`)}: {file.name}, {bytes(file.size)}
              </span>
              <Text size="xs" c="dimmed" className="mono breakable">
                sha256 {file.sha256}
              </Text>
            </List.Item>
          ))}
        </List>
        <Found dataset={dataset} />
      </Section>
    </Page>
  );
}

/** How the files were read in the end. */
function Found({ dataset }: { dataset: Dataset }) {
  const { t } = useTranslation();
  // The files' own entries only repeat what is said of them together.
  const facts = Object.entries(dataset.found)
    .filter(([name]) => name !== "files")
    .map(([name, value]) => [name, inWords(value)] as const)
    .filter(([, value]) => value !== "");
  if (facts.length === 0) return null;
  return (
    <Stack gap={4}>
      <Text size="sm" fw={500}>
        {t("datasets.found")}
      </Text>
      <Group gap="md">
        {facts.map(([name, value]) => (
          <Text size="sm" key={name}>
            <Text span c="dimmed" size="sm">
              {name.replaceAll("_", " ")}:
            </Text>{" "}
            <span className="mono">{value}</span>
          </Text>
        ))}
      </Group>
    </Stack>
  );
}

function inWords(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  if (typeof value !== "object") return value === "\t" ? "tab" : String(value);
  return Object.entries(value)
    .map(([name, inner]) => `${name} ${inWords(inner)}`)
    .join(", ");
}
