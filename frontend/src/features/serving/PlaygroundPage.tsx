import { Alert, Button, Group, Progress, Select, SimpleGrid, Stack, Table, Text, Textarea } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api } from "@/api/client";
import type { Deployment, PlaygroundAnswer } from "@/api/types";
import { Empty } from "@/components/Empty";
import { ErrorNote } from "@/components/ErrorNote";
import { Loaded } from "@/components/Loaded";
import { useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { Stats } from "@/components/Stat";
import { percent, real } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { ranked } from "./rollout";

const MOST = 15;

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
  const [text, setText] = useState("");
  const [pair, setPair] = useState("");
  const chosen = deployments.find(({ id }) => id === get("deployment")) ?? deployments[0];
  const beside = deployments.find(({ id }) => id === get("beside") && id !== chosen?.id);
  const path = "/api/v1/deployments/{deployment_id}/predict";
  const ask = api.useMutation("post", path);
  const askBeside = api.useMutation("post", path);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const body = { inputs: [{ text, ...(pair ? { text_pair: pair } : {}) }] };
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
        <form onSubmit={submit}>
          <Stack gap="sm">
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
            <Textarea
              label={t("playground.text")}
              value={text}
              onChange={(event) => setText(event.currentTarget.value)}
              maxLength={20_000}
              minRows={2}
              autosize
              maxRows={12}
              required
            />
            <Textarea
              label={t("playground.pair")}
              description={t("playground.pairNote")}
              value={pair}
              onChange={(event) => setPair(event.currentTarget.value)}
              maxLength={20_000}
              autosize
              maxRows={12}
            />
            <Group>
              <Button type="submit" loading={ask.isPending || askBeside.isPending}>
                {t("playground.ask")}
              </Button>
            </Group>
          </Stack>
        </form>
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
        <Table verticalSpacing={3} aria-label={t("playground.probabilities")} data-testid="probabilities">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("playground.label")}</Table.Th>
              <Table.Th w="45%" visibleFrom="xs" aria-hidden="true" />
              <Table.Th className="number">{t("playground.probability")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {shares.slice(0, MOST).map(([label, share]) => (
              <Table.Tr key={label}>
                <Table.Td className="breakable">{label}</Table.Td>
                <Table.Td visibleFrom="xs" aria-hidden="true">
                  <Progress value={100 * share} size="md" radius="xs" />
                </Table.Td>
                <Table.Td className="number">{percent(share)}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
      {shares.length > MOST && (
        <Text size="xs" c="dimmed">
          {t("playground.more", { count: shares.length - MOST })}
        </Text>
      )}
    </Section>
  );
}
