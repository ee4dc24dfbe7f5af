import { describe, expect, it } from "vitest";
import type { Deployment } from "@/api/types";
import { ranked, rollout } from "./rollout";

const on = (commit: string, state = "ready", online = true) => ({ commit, state, online });

describe("a rollout", () => {
  it("counts the nodes that answer with what is wanted", () => {
    const deployment = {
      replicas: 3,
      wanted: { version: 2, commit: "b" },
      placements: [on("b"), on("a"), on("b", "loading"), on("b", "ready", false)],
    } as unknown as Deployment;
    expect(rollout(deployment)).toEqual({ ready: 1, of: 3 });
    expect(rollout({ ...deployment, wanted: null })).toEqual({ ready: 0, of: 3 });
  });
});

describe("probabilities", () => {
  it("are shown from the likeliest", () => {
    expect(ranked({ a: 0.1, b: 0.7, c: 0.2 }).map(([label]) => label)).toEqual(["b", "c", "a"]);
    expect(ranked(null)).toEqual([]);
  });
});
