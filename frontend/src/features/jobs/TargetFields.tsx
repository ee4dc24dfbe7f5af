import { Group, NumberInput, SegmentedControl, Slider, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { KINDS, type Kind, SIZES } from "./target";

interface Props {
  kind: Kind;
  value: number | string;
  onKind: (kind: Kind) => void;
  onValue: (value: number | string) => void;
  error?: string;
  /** A model that is not here yet has no sizes, so it can't be given a budget. */
  sparsityOnly: boolean;
  /** Whether a serving node has measured itself, so that times can be planned. */
  timed: boolean;
}

const MARKS = [50, 60, 70, 80, 90].map((value) => ({ value, label: `${value} %` }));
const UNITS: Record<Exclude<Kind, "sparsity">, string> = {
  max_nonzero_params: " M",
  max_bytes: " MB",
  max_memory_bytes: " MB",
  max_latency_ms: " ms",
  min_speedup: " ×",
};

/** What to reach: a sparsity, or a budget that the planner turns into one. */
export function TargetFields({ kind, value, onKind, onValue, error, sparsityOnly, timed }: Props) {
  const { t } = useTranslation();
  const number = typeof value === "number" ? value : Number.parseFloat(value) || 50;
  return (
    <Stack gap="md">
      <SegmentedControl
        aria-label={t("jobs.targetTitle")}
        data={(timed ? KINDS : SIZES).map((name) => ({
          value: name,
          label: t(`jobs.target.${name}`),
          disabled: sparsityOnly && name !== "sparsity",
        }))}
        value={kind}
        onChange={(name) => onKind(KINDS.find((known) => known === name) ?? "sparsity")}
        fullWidth
        className="wrapping"
      />
      <Text size="sm" c="dimmed">
        {t(`jobs.target.${kind}_note`)}
      </Text>
      {kind === "sparsity" ? (
        <Group align="flex-start" gap="lg">
          <Slider
            thumbLabel={t("jobs.target.sparsity")}
            min={50}
            max={99}
            step={1}
            marks={MARKS}
            value={number}
            onChange={onValue}
            label={(shown) => `${shown} %`}
            style={{ flex: 1, minWidth: 220 }}
            mb="lg"
          />
          <NumberInput
            aria-label={t("jobs.target.sparsityExact")}
            value={value}
            onChange={onValue}
            min={50}
            max={99}
            step={1}
            decimalScale={2}
            suffix=" %"
            error={error}
            w={110}
          />
        </Group>
      ) : (
        <NumberInput
          label={t(`jobs.target.${kind}`)}
          value={value}
          onChange={onValue}
          min={0}
          step={kind === "min_speedup" ? 0.1 : 1}
          decimalScale={3}
          suffix={UNITS[kind]}
          error={error}
          w={220}
        />
      )}
    </Stack>
  );
}
