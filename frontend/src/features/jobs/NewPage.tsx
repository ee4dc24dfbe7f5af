import {
  Accordion,
  Alert,
  Anchor,
  Box,
  Button,
  Grid,
  Group,
  Select,
  SimpleGrid,
  Stack,
  Text,
  TextInput,
} from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type FormEvent, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useNavigate, useSearchParams } from "react-router";
import { api, client, reload } from "@/api/client";
import { apiError, fieldErrors } from "@/api/errors";
import type { EstimateRequest, JobSubmission, TrainSettings } from "@/api/types";
import { Empty } from "@/components/Empty";
import { ErrorNote } from "@/components/ErrorNote";
import { Loaded } from "@/components/Loaded";
import { Page } from "@/components/Page";
import { PlanTable } from "@/components/PlanTable";
import { Section } from "@/components/Section";
import { bytes, compact, count, duration } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { RequestSnippets } from "./RequestSnippets";
import { BLANK, type Draft, draftOf } from "./request";
import { SettingField } from "./SettingField";
import { COMMON, SETTINGS, type Setting } from "./settings";
import { TargetFields } from "./TargetFields";
import { denseValue, gains, isTime, type Kind, startingValue, type Where, wholeTarget } from "./target";
import { useMeasuredNodes } from "./useMeasuredNodes";
import { WhereFields } from "./WhereFields";

const PUBLIC = "public:";

function useEstimate(request: EstimateRequest | null) {
  // The plan is asked for when the typing rests, and the former one stays in sight until the new one is there.
  const [settled] = useDebouncedValue(JSON.stringify(request), 350);
  return useQuery({
    queryKey: ["estimate", settled],
    enabled: settled !== "null",
    placeholderData: keepPreviousData,
    staleTime: 30_000,
    retry: false,
    queryFn: async ({ signal }) => {
      const body = JSON.parse(settled) as EstimateRequest;
      const { data, error } = await client.POST("/api/v1/estimates", { body, signal });
      if (error) throw error;
      return data;
    },
  });
}

export function Component() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const [params] = useSearchParams();
  const datasets = api.useQuery("get", "/api/v1/datasets", {
    params: { query: { workspace: slug, state: "ready", page_size: 200 } },
  });
  const original = params.get("clone") ?? "";
  const clone = api.useQuery(
    "get",
    "/api/v1/jobs/{job_id}",
    { params: { path: { job_id: original } } },
    { enabled: original !== "" },
  );
  const dataset = params.get("dataset") ?? "";
  return (
    <Page title={t("jobs.new")} above={[{ label: t("jobs.title"), to: `/w/${slug}/jobs` }]}>
      <Loaded query={datasets}>
        {(list) =>
          list.count === 0 ? (
            <Empty title={t("jobs.noDataset")} text={t("jobs.noDatasetText")}>
              <Button component={Link} to={`/w/${slug}/datasets/new`}>
                {t("datasets.upload")}
              </Button>
            </Empty>
          ) : original ? (
            <Loaded query={clone}>
              {(job) => <Form key={job.id} datasets={list.results} draft={draftOf(job)} from={job.name} />}
            </Loaded>
          ) : (
            <Form datasets={list.results} draft={{ ...BLANK, dataset }} />
          )
        }
      </Loaded>
    </Page>
  );
}

interface FormProps {
  datasets: { id: string; name: string; labels: string[] }[];
  draft: Draft;
  /** Name of the job that the draft was taken from. */
  from?: string;
}

function Form({ datasets, draft, from }: FormProps) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const navigate = useNavigate();
  const models = api.useQuery("get", "/api/v1/base-models", { params: { query: { page_size: 200 } } });

  const [dataset, setDataset] = useState(
    () => datasets.find(({ id }) => id === draft.dataset)?.id ?? datasets[0]?.id ?? "",
  );
  const [chosenModel, setModel] = useState(draft.publicName ? PUBLIC : draft.model);
  const [publicName, setPublicName] = useState(draft.publicName);
  const [kind, setKind] = useState(draft.kind);
  const [value, setValue] = useState(draft.value);
  const [rest, setRest] = useState(draft.rest);
  const [chosenWhere, setWhere] = useState<Where | null>(draft.where);
  const [settings, setSettings] = useState(draft.settings);
  const [name, setName] = useState(draft.name);
  const [modelName, setModelName] = useState(draft.modelName);
  const [queue, setQueue] = useState(draft.queue);

  const first = models.data?.results[0]?.repo;
  const model = chosenModel ?? first ?? (models.data ? PUBLIC : "");
  const isPublic = model === PUBLIC;
  const nodes = useMeasuredNodes();
  const known = nodes.find(({ id }) => id === chosenWhere?.node) ?? nodes[0];
  const where: Where | null = known && !isPublic ? { rows: 1, tokens: 128, ...chosenWhere, node: known.id } : null;
  const target = wholeTarget(kind, value, where, rest);
  const baseModel = isPublic ? (publicName.trim() ? { public: publicName.trim() } : null) : model || null;

  const request: EstimateRequest | null =
    baseModel && target && dataset
      ? {
          workspace: slug,
          base_model: baseModel,
          target,
          settings,
          dataset,
          ...(queue ? { queue } : {}),
          ...(name.trim() ? { name: name.trim() } : {}),
        }
      : null;
  const estimate = useEstimate(request);
  const submission: JobSubmission | null = request && {
    ...request,
    dataset,
    ...(modelName.trim() ? { model_name: modelName.trim() } : {}),
  };
  // The same form sent twice, by a double click or after a lost answer, is one job; a changed form is another.
  const content = JSON.stringify(submission);
  const key = useMemo(() => (content ? randomKey() : ""), [content]);

  const submit = api.useMutation("post", "/api/v1/jobs", {
    onSuccess: async (job) => {
      await reload("/api/v1/jobs");
      await navigate(`/w/${slug}/jobs/${job.id}`);
    },
  });
  // What can't be met, or removes nothing, is said once, in place of the plan.
  const unreachable = isBudget(apiError(estimate.error)?.code);
  const errors = { ...(unreachable ? {} : fieldErrors(estimate.error)), ...fieldErrors(submit.error) };
  const field = (setting: Setting) => (
    <SettingField
      key={setting.name}
      setting={setting}
      values={settings}
      onChange={setSettings}
      error={errors[`settings.${setting.name}`]}
    />
  );
  const named = (names: readonly string[]) => SETTINGS.filter((setting) => names.includes(setting.name));
  const changeKind = (next: Kind) => {
    setKind(next);
    setValue(startingValue(next, estimate.data?.plan));
    setRest({ ...rest, [next]: undefined });
  };
  const structured = () => setSettings({ ...settings, structure: "structured" });
  const offersStructured =
    settings.structure !== "structured" &&
    (kind === "max_memory_bytes" || (isTime(kind) && where !== null)) &&
    (!gains(kind, estimate.data?.plan) || fieldErrors(estimate.error)["settings.structure"] !== undefined);
  const chosen = models.data?.results.find(({ repo }) => repo === model);

  const send = (event: FormEvent) => {
    event.preventDefault();
    if (submission) submit.mutate({ body: { ...submission, idempotency_key: key } });
  };

  return (
    <form onSubmit={send}>
      <Grid gap="lg">
        <Grid.Col span={{ base: 12, md: 7 }}>
          <Stack gap="lg">
            {from && <Alert color="blue">{t("jobs.clonedFrom", { name: from })}</Alert>}
            <Section title={t("jobs.form.dataset")}>
              <Select
                label={t("jobs.dataset")}
                data={datasets.map((entry) => ({
                  value: entry.id,
                  label: t("jobs.form.datasetOption", { name: entry.name, count: entry.labels.length }),
                }))}
                value={dataset}
                onChange={(id) => id && setDataset(id)}
                allowDeselect={false}
                searchable
              />
            </Section>

            <Section title={t("jobs.form.baseModel")} note={t("jobs.form.baseModelNote")}>
              <Loaded query={models} lines={1}>
                {(list) => (
                  <>
                    <Select
                      label={t("jobs.baseModel")}
                      data={[
                        ...list.results.map(({ repo, title }) => ({
                          value: repo,
                          label: title ? `${title} (${repo})` : repo,
                        })),
                        { value: PUBLIC, label: t("jobs.form.public") },
                      ]}
                      value={model}
                      onChange={(next) => {
                        setModel(next);
                        if (next === PUBLIC) {
                          changeKind("sparsity");
                          setRest({});
                        }
                      }}
                      allowDeselect={false}
                      error={errors.base_model}
                    />
                    {chosen && (
                      <Text size="sm" c="dimmed" className="figure">
                        {[
                          chosen.architecture,
                          t("jobs.form.parameters", { value: compact(chosen.parameters) }),
                          bytes(chosen.bytes),
                          chosen.license,
                        ]
                          .filter(Boolean)
                          .join(" · ")}
                      </Text>
                    )}
                  </>
                )}
              </Loaded>
              {isPublic && (
                <TextInput
                  label={t("jobs.form.publicName")}
                  description={t("jobs.form.publicNote")}
                  placeholder="owner/name@revision"
                  value={publicName}
                  onChange={(event) => setPublicName(event.currentTarget.value)}
                  error={errors["base_model.public"]}
                  required
                />
              )}
            </Section>

            <Section title={t("jobs.form.target")}>
              <TargetFields
                kind={kind}
                value={value}
                onKind={changeKind}
                onValue={setValue}
                rest={rest}
                onRest={setRest}
                node={known?.name}
                dense={denseValue(kind, estimate.data?.plan)}
                error={errors[`target.${kind}`] ?? errors["target.groups"]}
                sparsityOnly={isPublic}
                timed={nodes.length > 0 || isTime(kind)}
              />
              {where && <WhereFields nodes={nodes} value={where} onChange={setWhere} errors={errors} />}
              {offersStructured && (
                <Alert color="blue">
                  <Text size="sm">{t("jobs.target.needsStructured")}</Text>
                  <Button variant="default" size="xs" mt="xs" onClick={structured}>
                    {t("jobs.form.structuredSwitch")}
                  </Button>
                </Alert>
              )}
              {isTime(kind) && !where && <Text size="sm">{t("jobs.target.noNode")}</Text>}
            </Section>

            <Section title={t("jobs.form.method")} note={t("jobs.form.methodNote")}>
              <Select
                label={t("jobs.method")}
                description={t(`method.${settings.method ?? "pst"}_note`)}
                data={named(["method"]).flatMap(({ choices = [] }) =>
                  choices.map((choice) => ({
                    value: choice,
                    label: t(`method.${choice}` as "method.pst", { defaultValue: choice }),
                  })),
                )}
                value={settings.method ?? "pst"}
                onChange={(choice) =>
                  setSettings({ ...settings, method: (choice as TrainSettings["method"]) ?? undefined })
                }
                allowDeselect={false}
              />
              <SimpleGrid cols={{ base: 1, xs: 2 }}>{named(COMMON).map(field)}</SimpleGrid>
              <Accordion variant="separated">
                <Accordion.Item value="all">
                  <Accordion.Control>{t("jobs.form.allSettings")}</Accordion.Control>
                  <Accordion.Panel>
                    <SimpleGrid cols={{ base: 1, xs: 2 }}>
                      {SETTINGS.filter(({ name: known }) => known !== "method" && !COMMON.includes(known)).map(field)}
                    </SimpleGrid>
                  </Accordion.Panel>
                </Accordion.Item>
              </Accordion>
            </Section>

            <Section title={t("jobs.form.names")}>
              <SimpleGrid cols={{ base: 1, xs: 3 }}>
                <TextInput
                  label={t("jobs.name")}
                  placeholder={datasets.find(({ id }) => id === dataset)?.name}
                  value={name}
                  maxLength={100}
                  onChange={(event) => setName(event.currentTarget.value)}
                  error={errors.name}
                />
                <TextInput
                  label={t("jobs.modelName")}
                  placeholder={estimate.data?.model_name ?? t("jobs.form.fromName")}
                  value={modelName}
                  onChange={(event) => setModelName(event.currentTarget.value)}
                  error={errors.model_name}
                />
                <TextInput
                  label={t("jobs.queue")}
                  placeholder="default"
                  value={queue}
                  onChange={(event) => setQueue(event.currentTarget.value)}
                  error={errors.queue}
                />
              </SimpleGrid>
            </Section>
          </Stack>
        </Grid.Col>

        <Grid.Col span={{ base: 12, md: 5 }}>
          <Box pos="sticky" top={72}>
            <Section title={t("jobs.form.plan")}>
              <Stack gap="sm" aria-live="polite" data-testid="estimate">
                <EstimateView
                  query={estimate}
                  asked={request !== null}
                  onInt8={() => setSettings({ ...settings, embedding_storage: "int8" })}
                />
                {submit.error && <ErrorNote error={submit.error} title={t("jobs.notSubmitted")} />}
                <Group>
                  <Button type="submit" loading={submit.isPending} disabled={!submission || unreachable} fullWidth>
                    {t("jobs.submit")}
                  </Button>
                </Group>
                {submission && <RequestSnippets request={submission} />}
              </Stack>
            </Section>
          </Box>
        </Grid.Col>
      </Grid>
    </form>
  );
}

function isBudget(code: string | undefined): boolean {
  return code === "budget_unreachable" || code === "budget_met";
}

interface EstimateProps {
  query: ReturnType<typeof useEstimate>;
  asked: boolean;
  onInt8: () => void;
}

function EstimateView({ query, asked, onInt8 }: EstimateProps) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  if (!asked) {
    return (
      <Text size="sm" c="dimmed">
        {t("jobs.form.incomplete")}
      </Text>
    );
  }
  if (query.error) {
    const known = apiError(query.error);
    return isBudget(known?.code) ? (
      <Alert color="yellow" title={t(known?.code === "budget_met" ? "jobs.form.met" : "jobs.form.unreachable")}>
        {Object.values(fieldErrors(query.error))[0] ?? known?.message}
      </Alert>
    ) : (
      <ErrorNote error={query.error} />
    );
  }
  return (
    <Loaded query={{ data: query.data, error: null }}>
      {({ plan, seconds, queue }) => (
        <Stack gap="sm" aria-busy={query.isPlaceholderData}>
          {plan ? <PlanTable plan={plan} onInt8={onInt8} /> : <Text size="sm">{t("jobs.form.noPlan")}</Text>}
          <Text size="sm">
            {seconds.estimate === null
              ? t("jobs.form.noTime")
              : t("jobs.form.time", { time: duration(seconds.estimate) })}{" "}
            {t("jobs.form.queue", {
              queue: queue.name,
              position: count(queue.position),
              workers: t("jobs.workers", { count: queue.workers_online }),
            })}
          </Text>
          {queue.workers_online === 0 && (
            <Alert color="yellow">
              {t("jobs.form.noWorker", { queue: queue.name })}{" "}
              <Anchor component={Link} to={`/w/${slug}/serving`} size="sm" underline="always">
                {t("jobs.form.nodes")}
              </Anchor>
            </Alert>
          )}
        </Stack>
      )}
    </Loaded>
  );
}

/** crypto.randomUUID is missing where the page comes over plain HTTP from another machine. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
