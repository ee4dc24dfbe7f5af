import type { components } from "@/api/schema";
import type { DatasetListed, Deployment, Me, ModelRow, Node, Report, Token, Version } from "@/api/types";

/** Answers of the platform, of the types that its contract gives them. */

const WHEN = "2026-03-04T05:06:07Z";
const COMMIT = "0123456789abcdef0123456789abcdef01234567";

export const me: Me = {
  user: { id: 1, username: "olga", email: "", is_superuser: false },
  kind: "user",
  workspaces: [{ slug: "acme", name: "Acme", role: "owner" }],
  csrf_token: "c",
};

export function listOf<Row>(...results: Row[]): { count: number; next: null; previous: null; results: Row[] } {
  return { count: results.length, next: null, previous: null, results };
}

export const dataset: DatasetListed = {
  id: "d1",
  workspace: "acme",
  name: "support desk",
  state: "ready",
  options: {},
  found: { encoding: "utf-8" },
  task: "classification",
  labels: ["billing", "delivery"],
  text_pair: false,
  sha256: "ab12",
  files: [{ split: "train", name: "train.csv", size: 52_000, sha256: "cd34" }],
  splits: [
    { split: "train", rows: 720 },
    { split: "test", rows: 180 },
  ],
  created_at: WHEN,
  validated_at: WHEN,
  created_by: "olga",
};

export const job: components["schemas"]["Job"] = {
  id: "j1",
  workspace: "acme",
  name: "first try",
  state: "running",
  queue: "default",
  queue_position: null,
  workers_online: 1,
  waiting_for: null,
  message: "",
  pause_requested: false,
  dataset: { id: "d1", name: "support desk" },
  base_model: `base/minilm@${COMMIT}`,
  public: false,
  model_name: "support-desk",
  settings: { method: "pst", epochs: 5 },
  target: { sparsity: 0.9 },
  plan: {
    groups: [{ name: "attention", sparsity: 0.9, matrices: 24, nonzeros: 353_000, bytes: 900_000 }],
    sparsity: 0.9,
    nonzero_params: 12_400_000,
    total_params: 22_700_000,
    dense_bytes: 90_900_000,
    sparse_bytes: 49_000_000,
    fixed_bytes: 48_100_000,
    memory_bytes: 60_000_000,
    dense_memory_bytes: 95_000_000,
  },
  attempt: 1,
  failures: 0,
  max_attempts: 3,
  progress: { phase: "train", step: 30, total_steps: 120, loss: 0.5, sparsity: 0.4 },
  error: "",
  version: null,
  created_by: "olga",
  created_at: WHEN,
  started_at: WHEN,
  finished_at: null,
  report_available: false,
};

export const version = {
  number: 2,
  commit: COMMIT,
  created_at: WHEN,
  created_by: "olga",
  job_id: "j1",
  architecture: "BertForSequenceClassification",
  bytes: { total: 140_000_000, dense: 90_900_000, compact: 49_000_000 },
  headline: { metric: "accuracy", split: "test", value: 0.912, dense: 0.931, sparsity: 0.9 },
  aliases: ["production"],
  files: [{ path: "model.safetensors", size: 90_900_000, sha256: "ef56" }],
  manifest: { lineage: { dataset: { id: "d1", name: "support desk" } } },
  card: "# Support desk\n\nTells what a message is about.",
  labels: ["billing", "delivery"],
} satisfies Omit<Version, "report">;

export const model: ModelRow = {
  repo: "acme/support-desk",
  workspace: "acme",
  name: "support-desk",
  kind: "sparse",
  description: "",
  created_at: WHEN,
  latest: version,
  aliases: [{ name: "production", version: 2 }],
};

export const deployment: Deployment = {
  id: "p1",
  workspace: "acme",
  name: "desk",
  model: "acme/support-desk",
  revision: "production",
  replicas: 2,
  wanted: { version: 2, commit: COMMIT },
  placements: [
    {
      node: "serve-1",
      url: "http://serve-1",
      state: "loading",
      version: 2,
      commit: COMMIT,
      message: "half of it is there",
      changed_at: WHEN,
      online: true,
    },
  ],
  ready: false,
  offered: null,
  note: "",
  created_at: WHEN,
};

export const node: Node = {
  id: "n1",
  name: "serve-1",
  kind: "serve",
  workspace: "acme",
  version: "0.1.0",
  queues: [],
  url: "http://serve-1",
  hardware: { cpus: 8, memory_bytes: 16e9 },
  load: {},
  profile: null,
  online: false,
  registered_at: WHEN,
  last_seen_at: WHEN,
  holds: [],
};

export const token: Token = {
  id: "t1",
  kind: "user",
  name: "laptop",
  prefix: "sw_ab",
  workspace: "acme",
  role: "editor",
  created_at: WHEN,
  expires_at: null,
  last_used_at: null,
};

const interval = [0.88, 0.94];

/** As an older version wrote it: without what only newer ones measure. */
export const report: Report = {
  format: "sparsewright-report",
  task: "classification",
  primary: "accuracy",
  method: "pst",
  metrics: { validation: null, test: { accuracy: 0.912 } },
  dense: { validation: null, test: { accuracy: 0.931 } },
  measures: {
    quality: {
      metric: "accuracy",
      splits: { test: { difference: -0.019, difference_interval: [-0.03, -0.01], dense_interval: interval } },
    },
  },
  sparsity: { target: 0.9, reached: 0.9001 },
  params: { total: 22_700_000, nonzero: 12_400_000 },
  bytes: { dense: 90_900_000, sparse: 49_000_000 },
  agreement: 0.95,
  seconds: { prepare: 2, dense: 60, train: 120, distillation: 3 },
  confusion: {
    split: "test",
    labels: ["billing", "delivery"],
    matrix: [
      [80, 10],
      [6, 84],
    ],
  },
  errors: {
    split: "test",
    count: 16,
    rows: [
      {
        row: 7,
        text: "where is my invoice for the parcel",
        text_pair: null,
        gold: "billing",
        predicted: "delivery",
        dense: "billing",
        probability: 0.81,
      },
    ],
  },
};
