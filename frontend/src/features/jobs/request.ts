import type { Job, JobSubmission, Target, TrainSettings } from "@/api/types";
import { changedSettings } from "./settings";
import { KINDS, type Kind, type Rest, shownValue, type Where } from "./target";

/** What the form of a new job holds when it opens. */
export interface Draft {
  dataset: string;
  /** A registry model's name, or null for the first there is. */
  model: string | null;
  publicName: string;
  kind: Kind;
  /** Percent, millions, milliseconds or times. */
  value: number | string;
  /** What else the target asks for: groups' shares and further limits. */
  rest: Rest;
  /** Where times are planned; null for the first node that has measured itself. */
  where: Where | null;
  settings: TrainSettings;
  name: string;
  modelName: string;
  queue: string;
}

export const BLANK: Draft = {
  dataset: "",
  model: null,
  publicName: "",
  kind: "sparsity",
  value: 90,
  rest: {},
  where: null,
  settings: {},
  name: "",
  modelName: "",
  queue: "",
};

/** A job's request as the form would have sent it, to be changed and sent again. */
export function draftOf(job: Job): Draft {
  const { on, ...asked } = job.target;
  const rest = Object.fromEntries(Object.entries(asked).filter(([, part]) => part != null)) as Rest;
  // Groups' shares stand where the one sparsity stands.
  const kind = rest.groups ? "sparsity" : (KINDS.find((name) => rest[name] != null) ?? "sparsity");
  const amount = rest[kind];
  delete rest[kind];
  return {
    dataset: job.dataset.id,
    model: job.public ? null : (job.base_model.split("@")[0] ?? null),
    publicName: job.public ? job.base_model : "",
    kind,
    value: amount == null ? 90 : shownValue(kind, amount),
    rest,
    where: on ?? null,
    settings: Object.fromEntries(changedSettings(job.settings)) as TrainSettings,
    name: job.name,
    modelName: job.model_name,
    queue: job.queue === "default" ? "" : job.queue,
  };
}

/** As one word of a POSIX shell. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

export function asCurl(origin: string, body: JobSubmission): string {
  return [
    `curl -X POST ${origin}/api/v1/jobs \\`,
    '  -H "Authorization: Bearer $SPARSEWRIGHT_TOKEN" -H "Content-Type: application/json" \\',
    `  -d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join("\n");
}

export function asCommand(body: JobSubmission): string {
  const base = body.base_model;
  const { on, groups, ...sizes } = body.target as Target;
  const words: [string, unknown][] = [
    ["--dataset", body.dataset],
    typeof base === "string" ? ["--base-model", base] : ["--public-model", base.public],
    ...Object.entries(sizes).map(([name, amount]): [string, unknown] => [`--${name.replaceAll("_", "-")}`, amount]),
    ...Object.entries(groups ?? {}).map(([name, share]): [string, unknown] => ["--group", `${name}=${share}`]),
    ["--on", on?.node],
    ["--rows", on?.rows],
    ["--tokens", on?.tokens],
    ...Object.entries(body.settings ?? {}).map(([name, value]): [string, unknown] => ["--set", `${name}=${value}`]),
    ["--name", body.name],
    ["--model-name", body.model_name],
    ["--queue", body.queue],
    ["--workspace", body.workspace],
  ];
  const given = words.filter(([, value]) => value != null && value !== "");
  return ["pst submit", ...given.map(([name, value]) => `  ${name} ${quoted(String(value))}`)].join(" \\\n");
}
