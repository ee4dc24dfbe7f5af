import { listAt, numberOf, textOf } from "@/lib/tree";

/** What a node's machine is: a device, and sizes; null where the node doesn't say. */
export interface Machine {
  device: string;
  cpus: number | null;
  /** Bytes: of the GPUs where there are any, else of the machine. */
  memory: number | null;
  /** Free bytes of the same, as last heard. */
  available: number | null;
  /** 0 to 1 of each GPU, on average; null without one. */
  utilisation: number | null;
  /** Processes that wanted to run, on average over the last minute. */
  cpuLoad: number | null;
}

export function machineOf(hardware: Record<string, unknown>, load: Record<string, unknown>): Machine {
  const gpus = listAt(hardware, "gpus");
  const now = listAt(load, "gpus");
  const numbers = (items: unknown[], name: string) =>
    items.map((item) => numberOf((item as Record<string, unknown>)[name])).filter((value) => value !== null);
  const sum = (values: number[]) => (values.length > 0 ? values.reduce((all, value) => all + value, 0) : null);
  const shares = numbers(now, "utilisation");
  const memory = gpus.length > 0 ? sum(numbers(gpus, "memory_bytes")) : numberOf(hardware.memory_bytes);
  const used = sum(numbers(now, "memory_used_bytes"));
  return {
    device:
      gpus.length > 0
        ? `${gpus.length > 1 ? `${gpus.length} × ` : ""}${textOf((gpus[0] as Record<string, unknown>).name)}`
        : textOf(hardware.processor) || textOf(hardware.machine),
    cpus: numberOf(hardware.cpus),
    memory,
    available:
      gpus.length > 0
        ? memory !== null && used !== null
          ? memory - used
          : null
        : numberOf(load.memory_available_bytes),
    utilisation: shares.length > 0 ? (sum(shares) ?? 0) / shares.length : null,
    cpuLoad: numberOf(load.cpu_load),
  };
}
