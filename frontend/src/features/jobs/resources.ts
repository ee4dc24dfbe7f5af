import type { MachineResources } from "@/api/types";

/** What a job's machine said of itself at one moment: of its GPUs where it has some, else of its processor. */
export interface Resources {
  isGpu: boolean;
  device: string;
  /** Bytes in use on the device; without a GPU, those of the machine. */
  memory: number | null;
  memoryTotal: number | null;
  /** 0 to 1: of the GPUs on average; without any, the cores that are wanted, at most all. */
  busy: number | null;
  /** Processes that wanted to run, on average over the last minute. */
  load: number | null;
  cpus: number;
  /** Bytes of the job's own processes in the machine's memory. */
  jobMemory: number | null;
}

export function resourcesOf(data: MachineResources): Resources {
  const gpus = data.gpus ?? [];
  const cpus = data.cpus ?? 0;
  const load = data.cpu_load ?? null;
  const machine = { load, cpus, jobMemory: data.job_memory_bytes ?? null };
  if (gpus.length > 0) {
    return {
      ...machine,
      isGpu: true,
      device: named(gpus.map(({ name }) => name ?? "")),
      memory: sum(gpus.map(({ memory_used_bytes }) => memory_used_bytes ?? null)),
      memoryTotal: sum(gpus.map(({ memory_bytes }) => memory_bytes ?? null)),
      busy: mean(gpus.map(({ utilisation }) => utilisation ?? null)),
    };
  }
  const total = data.memory_bytes ?? null;
  const available = data.memory_available_bytes ?? null;
  return {
    ...machine,
    isGpu: false,
    device: data.processor ?? "",
    memory: total === null || available === null ? null : total - available,
    memoryTotal: total,
    busy: load === null || cpus === 0 ? null : Math.min(1, load / cpus),
  };
}

/** ["A", "A", "B"] -> "2 × A, B" */
function named(names: string[]): string {
  return [...new Set(names)]
    .map((name) => [names.filter((other) => other === name).length, name] as const)
    .map(([times, name]) => (times > 1 ? `${times} × ${name}` : name))
    .join(", ");
}

/** Null where one of them is unknown: a part of the memory would be taken for all of it. */
function sum(values: (number | null)[]): number | null {
  return values.reduce<number | null>((all, value) => (all === null || value === null ? null : all + value), 0);
}

function mean(values: (number | null)[]): number | null {
  const total = sum(values);
  return total === null ? null : total / values.length;
}
