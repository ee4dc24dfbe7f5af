import type { JobEvent } from "@/api/types";
import { type Resources, resourcesOf } from "./resources";

/** A job's events, folded into what the page shows. Times are unix seconds; a null value breaks the line. */
export interface JobRecord {
  /** Id of the last event taken in; what follows is asked for with after=. */
  last: number;
  /** One entry per progress event. */
  time: number[];
  loss: (number | null)[];
  sparsity: (number | null)[];
  rate: (number | null)[];
  /** One entry per scoring of the validation split. */
  scoredAt: number[];
  score: (number | null)[];
  scoreName: string;
  phases: PhaseSpan[];
  /** How many phases the job has in all; 0 while unknown. */
  phaseCount: number;
  log: LogLine[];
  /** One entry per resources event: bytes in use on the device, and the share of it that is busy. */
  measuredAt: number[];
  memory: (number | null)[];
  busy: (number | null)[];
  /** What the last one says. */
  resources: Resources | null;
}

export interface PhaseSpan {
  phase: string;
  attempt: number;
  start: number;
  end: number | null;
}

export interface LogLine {
  kind: "state" | "phase" | "checkpoint" | "info" | "warning" | "error";
  event: JobEvent;
}

export const EMPTY: JobRecord = {
  last: 0,
  time: [],
  loss: [],
  sparsity: [],
  rate: [],
  scoredAt: [],
  score: [],
  scoreName: "",
  phases: [],
  phaseCount: 0,
  log: [],
  measuredAt: [],
  memory: [],
  busy: [],
  resources: null,
};

/** The record with `events` added. Events that it has taken in already are passed over. */
export function reduce(before: JobRecord, events: JobEvent[]): JobRecord {
  const fresh = events.filter((event) => event.id > before.last);
  if (fresh.length === 0) return before;
  const after: JobRecord = {
    ...before,
    time: [...before.time],
    loss: [...before.loss],
    sparsity: [...before.sparsity],
    rate: [...before.rate],
    scoredAt: [...before.scoredAt],
    score: [...before.score],
    phases: before.phases.map((span) => ({ ...span })),
    log: [...before.log],
    measuredAt: [...before.measuredAt],
    memory: [...before.memory],
    busy: [...before.busy],
  };
  for (const event of fresh) {
    after.last = event.id;
    take(after, event, Date.parse(event.at) / 1000);
  }
  return after;
}

function take(record: JobRecord, event: JobEvent, at: number): void {
  const line = (kind: LogLine["kind"]) => record.log.push({ kind, event });
  switch (event.type) {
    case "progress":
      record.time.push(at);
      record.loss.push(event.data.loss ?? null);
      record.sparsity.push(event.data.sparsity ?? null);
      record.rate.push(event.data.learning_rate ?? null);
      break;
    case "metric":
      record.scoredAt.push(at);
      record.score.push(event.data.value ?? null);
      record.scoreName = event.data.name || record.scoreName;
      break;
    case "phase":
      close(record, at);
      breakLines(record, at);
      record.phases.push({ phase: event.data.phase, attempt: event.attempt, start: at, end: null });
      record.phaseCount = event.data.of ?? record.phaseCount;
      line("phase");
      break;
    case "state":
      if (event.data.state !== "running" && event.data.state !== "cancelling") close(record, at);
      line("state");
      break;
    case "checkpoint":
      line("checkpoint");
      break;
    case "resources":
      record.resources = resourcesOf(event.data);
      record.measuredAt.push(at);
      record.memory.push(record.resources.memory);
      record.busy.push(record.resources.busy);
      break;
    case "log":
      line(event.data.level === "error" || event.data.level === "warning" ? event.data.level : "info");
      break;
  }
}

function close(record: JobRecord, at: number): void {
  const current = record.phases.at(-1);
  if (current && current.end === null) current.end = at;
}

/** A phase's loss has nothing to do with the phase's before: the lines are not joined. */
function breakLines(record: JobRecord, at: number): void {
  if (record.loss.length > 0 && record.loss.at(-1) !== null) {
    record.time.push(at);
    record.loss.push(null);
    record.sparsity.push(null);
    record.rate.push(null);
  }
  if (record.score.length > 0 && record.score.at(-1) !== null) {
    record.scoredAt.push(at);
    record.score.push(null);
  }
}
