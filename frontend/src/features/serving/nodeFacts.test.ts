import { describe, expect, it } from "vitest";
import { machineOf } from "./nodeFacts";

const CPU = { machine: "x86_64", processor: "EPYC", cpus: 8, memory_bytes: 100, gpus: [] };

describe("a node's machine", () => {
  it("is its processor where it has no GPU", () => {
    expect(machineOf(CPU, { cpu_load: 3.5, memory_available_bytes: 40, gpus: [] })).toEqual({
      device: "EPYC",
      cpus: 8,
      memory: 100,
      available: 40,
      utilisation: null,
      cpuLoad: 3.5,
    });
    expect(machineOf(CPU, { versions: 1 })).toMatchObject({ available: null, cpuLoad: null });
  });

  it("is its GPUs where it has some", () => {
    const gpu = { name: "H100", memory_bytes: 80 };
    const now = { ...gpu, memory_used_bytes: 30 };
    expect(
      machineOf(
        { ...CPU, gpus: [gpu, gpu] },
        {
          gpus: [
            { ...now, utilisation: 1 },
            { ...now, utilisation: 0.5 },
          ],
        },
      ),
    ).toMatchObject({ device: "2 × H100", memory: 160, available: 100, utilisation: 0.75 });
    expect(machineOf({ ...CPU, gpus: [gpu] }, {})).toMatchObject({ memory: 80, available: null, utilisation: null });
  });

  it("may say nothing", () => {
    expect(machineOf({}, {})).toMatchObject({ device: "", cpus: null, memory: null });
  });
});
