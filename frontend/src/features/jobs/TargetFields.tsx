import { Button, Group, NumberInput, SegmentedControl, SimpleGrid, Slider, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { real } from "@/lib/format";
import { KINDS, type Kind, type Rest, SIZES } from "./target";
import { targetWords } from "./targetWords";

interface Props {
  kind: Kind;
  value: number | string;
  onKind: (kind: Kind) => void;
  onValue: (value: number | string) => void;
  /** What else is asked for, such as by the job that was cloned. */
  rest: Rest;
  onRest: (rest: Rest) => void;
  /** The node's name, where times are planned. */
  node?: string;
  /** What the dense model has, in the field's unit. */
  dense: number | null;
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
export function TargetFields(props: Props) {
  const { kind, value, onKind, onValue, rest, onRest, node, dense, error, sparsityOnly, timed } = props;
  const { t } = useTranslation();
  const { groups } = rest;
  const grouped = kind === "sparsity" && groups != null;
  const besides = targetWords(t, rest, node).filter(({ name }) => !(grouped && name === "groups"));
  const without = (name: keyof Rest) => onRest({ ...rest, [name]: undefined });
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
        {t(`jobs.target.${grouped ? "groups" : kind}_note`)}
      </Text>
      {grouped ? (
        <Stack gap="xs">
          <SimpleGrid cols={{ base: 2, xs: 3 }}>
            {Object.entries(groups).map(([name, share]) => (
              <NumberInput
                key={name}
                label={name}
                value={Math.round(share * 10_000) / 100}
                onChange={(next) => onRest({ ...rest, groups: { ...groups, [name]: Number(next) / 100 } })}
                min={0}
                max={99}
                decimalScale={2}
                suffix=" %"
              />
            ))}
          </SimpleGrid>
          {error && (
            <Text size="sm" c="red">
              {error}
            </Text>
          )}
          <Group>
            <Button variant="default" size="xs" onClick={() => without("groups")}>
              {t("jobs.target.oneForAll")}
            </Button>
          </Group>
        </Stack>
      ) : kind === "sparsity" ? (
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
          description={
            dense === null ? undefined : t("jobs.target.denseOf", { value: `${real(dense, 6)}${UNITS[kind]}` })
          }
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
      {besides.map(({ name, words }) => (
        <Group key={name} gap="xs">
          <Text size="sm">{t("jobs.target.kept", { what: words })}</Text>
          <Button variant="default" size="compact-xs" onClick={() => without(name)}>
            {t("jobs.target.drop")}
          </Button>
        </Group>
      ))}
    </Stack>
  );
}
