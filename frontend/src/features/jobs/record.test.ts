import { describe, expect, it } from "vitest";
import type { JobEvent } from "@/api/types";
import { EMPTY, reduce } from "./record";

let id = 0;
function event(type: JobEvent["type"], second: number, data: Partial<JobEvent["data"]>, attempt = 1): JobEvent {
  id += 1;
  return { id, attempt, seq: id, type, at: new Date(second * 1000).toISOString(), data } as JobEvent;
}
const progress = (second: number, loss: number, sparsity: number) =>
  event("progress", second, { phase: "train", step: second, total_steps: 9, loss, sparsity, learning_rate: 0.001 });

describe("reducing events to curves", () => {
  it("collects a point per progress event and a score per metric", () => {
    const record = reduce(EMPTY, [
      event("phase", 1, { phase: "train", index: 2, of: 7 }),
      progress(2, 2.5, 0),
      progress(3, 1.5, 0.4),
      event("metric", 3, { name: "accuracy", split: "validation", value: 0.8 }),
    ]);
    expect(record.time).toEqual([2, 3]);
    expect(record.loss).toEqual([2.5, 1.5]);
    expect(record.sparsity).toEqual([0, 0.4]);
    expect(record.rate).toEqual([0.001, 0.001]);
    expect([record.scoredAt, record.score, record.scoreName]).toEqual([[3], [0.8], "accuracy"]);
    expect(record.phaseCount).toBe(7);
  });

  it("gives the same however the events are cut into polls, and takes none twice", () => {
    const events = [
      event("phase", 1, { phase: "dense", index: 1, of: 7 }),
      progress(2, 2, 0),
      event("phase", 3, { phase: "train", index: 2, of: 7 }),
      progress(4, 1, 0.5),
    ];
    const whole = reduce(EMPTY, events);
    const parts = events.reduce((record, one) => reduce(record, [one]), EMPTY);
    expect(parts).toEqual(whole);
    expect(reduce(whole, events)).toBe(whole);
  });

  it("breaks the lines where a phase begins, and only there", () => {
    const record = reduce(EMPTY, [
      event("phase", 1, { phase: "dense", of: 7 }),
      progress(2, 2, 0),
      event("metric", 2, { name: "accuracy", value: 0.9 }),
      event("phase", 3, { phase: "train", of: 7 }),
      event("phase", 3, { phase: "merge", of: 7 }),
      progress(4, 1, 0.5),
    ]);
    expect(record.loss).toEqual([2, null, 1]);
    expect(record.time).toEqual([2, 3, 4]);
    expect(record.score).toEqual([0.9, null]);
  });

  it("does not change the record that it was given", () => {
    const first = reduce(EMPTY, [event("phase", 1, { phase: "prepare", of: 7 }), progress(2, 1, 0)]);
    const copy = structuredClone(first);
    reduce(first, [event("phase", 3, { phase: "dense", of: 7 }), progress(4, 1, 0)]);
    expect(first).toEqual(copy);
    expect(EMPTY.log).toEqual([]);
  });

  it("ends a phase when the next begins, or when the job leaves its worker", () => {
    const record = reduce(EMPTY, [
      event("state", 0, { state: "running", from: "queued" }, 0),
      event("phase", 1, { phase: "prepare", of: 7 }),
      event("phase", 3, { phase: "dense", of: 7 }),
      event("state", 4, { state: "cancelling", from: "running" }, 0),
      event("state", 5, { state: "cancelled", from: "cancelling" }, 0),
    ]);
    expect(record.phases.map(({ phase, start, end }) => [phase, start, end])).toEqual([
      ["prepare", 1, 3],
      ["dense", 3, 5],
    ]);
    expect(record.log.map((line) => line.kind)).toEqual(["state", "phase", "phase", "state", "state"]);
  });

  it("breaks the line where a value is not known", () => {
    const record = reduce(EMPTY, [event("progress", 1, { sparsity: null }), event("log", 2, { level: "odd" })]);
    expect([record.loss, record.sparsity]).toEqual([[null], [null]]);
    expect(record.log[0]?.kind).toBe("info");
  });
});

describe("what a job's machine does", () => {
  const machine = { processor: "EPYC", cpus: 4, cpu_load: 6, memory_bytes: 100, memory_available_bytes: 60 };
  const card = { name: "H200", memory_bytes: 80, memory_used_bytes: 20, utilisation: 0.5 };

  it("is the processor's where there is no GPU", () => {
    const record = reduce(EMPTY, [event("resources", 5, { ...machine, gpus: [], job_memory_bytes: 7 })]);
    expect(record.resources).toEqual({
      isGpu: false,
      device: "EPYC",
      memory: 40,
      memoryTotal: 100,
      busy: 1,
      load: 6,
      cpus: 4,
      jobMemory: 7,
    });
    expect([record.measuredAt, record.memory, record.busy]).toEqual([[5], [40], [1]]);
  });

  it("is that of all GPUs together, and unknown where one does not tell", () => {
    const both = { ...machine, gpus: [card, { ...card, utilisation: 1 }], job_memory_bytes: null };
    const one = { ...machine, gpus: [card, { ...card, memory_used_bytes: null, utilisation: null }] };
    const record = reduce(EMPTY, [event("resources", 5, both), event("resources", 10, one)]);
    expect(record.resources).toMatchObject({ isGpu: true, device: "2 × H200", memoryTotal: 160, jobMemory: null });
    expect([record.memory, record.busy]).toEqual([
      [40, null],
      [0.75, null],
    ]);
  });

  it("may be of a worker that says less", () => {
    const record = reduce(EMPTY, [event("resources", 5, {})]);
    expect(record.resources).toMatchObject({ device: "", memory: null, busy: null, cpus: 0 });
  });
});
