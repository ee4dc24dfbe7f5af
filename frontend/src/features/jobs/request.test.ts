import { describe, expect, it } from "vitest";
import type { Job, JobSubmission } from "@/api/types";
import { asCommand, asCurl, draftOf, quoted } from "./request";

const body: JobSubmission = {
  workspace: "acme",
  dataset: "00000000-0000-0000-0000-000000000001",
  base_model: "base/minilm-l6",
  target: { sparsity: 0.9 },
  settings: { epochs: 3, distill: false },
  name: "Olga's first",
  queue: "default",
};

describe("a job's request", () => {
  it("is one word of a shell, whatever it holds", () => {
    expect(quoted("base/minilm-l6@v2")).toBe("base/minilm-l6@v2");
    expect(quoted("Olga's $HOME")).toBe("'Olga'\\''s $HOME'");
    expect(quoted("")).toBe("''");
  });

  it("can be sent with curl", () => {
    const command = asCurl("https://models.example:8443", body);
    expect(command).toContain("https://models.example:8443/api/v1/jobs");
    expect(command).toContain("Olga'\\''s first");
    const json = command.slice(command.indexOf("-d '") + 4, -1).replaceAll("'\\''", "'");
    expect(JSON.parse(json)).toEqual(body);
  });

  it("can be sent with pst submit", () => {
    const command = asCommand(body);
    for (const part of [
      "--dataset 00000000-0000-0000-0000-000000000001",
      "--base-model base/minilm-l6",
      "--sparsity 0.9",
      "--set epochs=3",
      "--set distill=false",
      "--name 'Olga'\\''s first'",
    ]) {
      expect(command).toContain(part);
    }
    expect(asCommand({ ...body, base_model: { public: "o/n" }, target: { max_bytes: 5 } })).toMatch(
      /--public-model o\/n[\s\S]*--max-bytes 5/,
    );
    const timed = { max_latency_ms: 3.5, on: { node: "n", rows: 1, tokens: 64 }, groups: { decoder: 0.9 } };
    expect(asCommand({ ...body, target: timed })).toMatch(
      /--max-latency-ms 3.5 [\s\S]*--group decoder=0.9[\s\S]*--on n [\s\S]*--rows 1 [\s\S]*--tokens 64/,
    );
  });

  it("is what a job was made of, when it is cloned", () => {
    const job = {
      dataset: { id: "d", name: "rows" },
      base_model: "base/minilm-l6@0123456789abcdef0123456789abcdef01234567",
      public: false,
      target: { sparsity: null, max_bytes: 52_500_000 },
      settings: { epochs: 3, seed: 42 },
      name: "first",
      model_name: "intents",
      queue: "gpu",
    } as unknown as Job;
    expect(draftOf(job)).toEqual({
      dataset: "d",
      model: "base/minilm-l6",
      publicName: "",
      kind: "max_bytes",
      value: 52.5,
      rest: {},
      where: null,
      settings: { epochs: 3 },
      name: "first",
      modelName: "intents",
      queue: "gpu",
    });
    const on = { node: "n", rows: 4, tokens: 64 };
    const timed = { ...job, target: { min_speedup: 1.5, on } } as Job;
    expect(draftOf(timed)).toMatchObject({ kind: "min_speedup", value: 1.5, where: on });
    const limits = { max_memory_bytes: 70_000_000, max_latency_ms: 5 };
    const two = { ...job, target: { sparsity: 0.8, ...limits, on }, settings: { structure: "structured" } } as Job;
    expect(draftOf(two)).toMatchObject({ kind: "sparsity", value: 80, rest: limits, where: on });
    const groups = { attention: 0.5, ffn: 0.95 };
    const grouped = { ...job, target: { groups, max_bytes: 5, sparsity: null } } as unknown as Job;
    expect(draftOf(grouped)).toMatchObject({ kind: "sparsity", rest: { groups, max_bytes: 5 } });
    const other = {
      ...job,
      public: true,
      base_model: "o/n@main",
      target: { sparsity: 0.875 },
      queue: "default",
    } as Job;
    expect(draftOf(other)).toMatchObject({
      model: null,
      publicName: "o/n@main",
      kind: "sparsity",
      value: 87.5,
      queue: "",
    });
  });
});
