import { Alert, Button, Select, SimpleGrid, Text, Textarea } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { Deployment, PlaygroundAnswer } from "@/api/types";
import { barColumn, DataTable } from "@/components/DataTable";
import { Empty } from "@/components/Empty";
import { ErrorNote } from "@/components/ErrorNote";
import { Form, useForm } from "@/components/Form";
import { Loaded } from "@/components/Loaded";
import { useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { Stats } from "@/components/Stat";
import { percent, real } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { ranked } from "./rollout";

const MOST = 15;
const TEXT = { maxLength: 20_000, autosize: true, maxRows: 12 };

export function Component() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const deployments = api.useQuery(
    "get",
    "/api/v1/deployments",
    { params: { query: { workspace: slug, page_size: 200 } } },
    { refetchInterval: 5000 },
  );
  return (
    <Page title={t("playground.title")} above={[{ label: t("serving.title"), to: `/w/${slug}/serving` }]}>
      <Loaded query={deployments}>
        {(list) =>
          list.count === 0 ? (
            <Empty title={t("serving.none")} text={t("serving.noneText")}>
              <Button component={Link} to={`/w/${slug}/models`} variant="default">
                {t("serving.toModels")}
              </Button>
            </Empty>
          ) : (
            <Playground deployments={list.results} />
          )
        }
      </Loaded>
    </Page>
  );
}

function Playground({ deployments }: { deployments: Deployment[] }) {
  const { t } = useTranslation();
  const { get, set } = useListAddress();
  const fields = useForm({ text: "", text_pair: "" }, null);
  const chosen = deployments.find(({ id }) => id === get("deployment")) ?? deployments[0];
  const beside = deployments.find(({ id }) => id === get("beside") && id !== chosen?.id);
  const path = "/api/v1/deployments/{deployment_id}/predict";
  const ask = api.useMutation("post", path);
  const askBeside = api.useMutation("post", path);
  const submit = () => {
    const { text, text_pair } = fields.values;
    const body = { inputs: [{ text, ...(text_pair ? { text_pair } : {}) }] };
    if (chosen) ask.mutate({ params: { path: { deployment_id: chosen.id } }, body });
    if (beside) askBeside.mutate({ params: { path: { deployment_id: beside.id } }, body });
    else askBeside.reset();
  };
  const options = deployments.map(({ id, name, model, revision }) => ({
    value: id,
    label: `${name} · ${model}@${revision}`,
  }));
  return (
    <>
      <Section title={t("playground.question")}>
        <Form
          label={t("playground.ask")}
          onSubmit={submit}
          narrow
          request={{ isPending: ask.isPending || askBeside.isPending, error: null }}
        >
          <SimpleGrid cols={{ base: 1, sm: 2 }}>
            <Select
              label={t("playground.deployment")}
              data={options}
              value={chosen?.id ?? null}
              onChange={(id) => set("deployment", id ?? "")}
              allowDeselect={false}
            />
            {options.length > 1 && (
              <Select
                label={t("playground.beside")}
                description={t("playground.besideNote")}
                placeholder={t("playground.noBeside")}
                data={options.filter(({ value }) => value !== chosen?.id)}
                value={beside?.id ?? null}
                onChange={(id) => set("beside", id ?? "")}
                clearable
              />
            )}
          </SimpleGrid>
          {chosen && !chosen.ready && <Alert color="yellow">{t("playground.notReady")}</Alert>}
          <Textarea label={t("playground.text")} {...fields.text("text")} {...TEXT} minRows={2} />
          <Textarea
            label={t("playground.pair")}
            description={t("playground.pairNote")}
            {...fields.text("text_pair")}
            {...TEXT}
            required={false}
          />
        </Form>
      </Section>
      <div aria-live="polite" className="live">
        <SimpleGrid cols={{ base: 1, md: beside ? 2 : 1 }}>
          <AnswerView answer={ask.data} error={ask.error} />
          {beside && <AnswerView answer={askBeside.data} error={askBeside.error} />}
        </SimpleGrid>
      </div>
    </>
  );
}

function AnswerView({ answer, error }: { answer: PlaygroundAnswer | undefined; error: unknown }) {
  const { t } = useTranslation();
  if (error) return <ErrorNote error={error} />;
  const prediction = answer?.predictions[0];
  if (!answer || !prediction) return null;
  const shares = ranked(prediction.probabilities);
  const version = answer.version == null ? answer.commit.slice(0, 12) : `v${answer.version}`;
  return (
    <Section
      title={t("playground.answerOf", { name: answer.deployment, version })}
      note={t("playground.from", { node: answer.node })}
    >
      <Stats
        cols={3}
        figures={[
          ...(prediction.label != null
            ? [{ label: t("playground.label"), value: [prediction.label].flat().join(", ") || "–" }]
            : []),
          { label: t("playground.model"), value: `${real(answer.milliseconds)} ms`, note: t("playground.modelNote") },
          {
            label: t("playground.whole"),
            value: `${Math.round(answer.round_trip_milliseconds)} ms`,
            note: t("playground.wholeNote"),
          },
        ]}
      />
      {prediction.text != null && (
        <Text size="sm" className="breakable" style={{ whiteSpace: "pre-wrap" }}>
          {prediction.text}
        </Text>
      )}
      {shares.length > 0 && (
        <DataTable
          label={t("playground.probabilities")}
          data-testid="probabilities"
          rows={shares.slice(0, MOST)}
          columns={[
            { name: t("playground.label"), className: "breakable", cell: ([label]) => label },
            barColumn(([, share]: [string, number]) => share),
            { name: t("playground.probability"), className: "number", cell: ([, share]) => percent(share) },
          ]}
          keyOf={([label]) => label}
          verticalSpacing={3}
        />
      )}
      {shares.length > MOST && (
        <Text size="xs" c="dimmed">
          {t("playground.more", { count: shares.length - MOST })}
        </Text>
      )}
    </Section>
  );
}
