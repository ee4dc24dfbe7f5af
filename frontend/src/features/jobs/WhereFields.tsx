import { NumberInput, Select, SimpleGrid } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { Where } from "./target";

interface Props {
  nodes: { id: string; name: string }[];
  value: Where;
  onChange: (value: Where) => void;
  errors: Record<string, string>;
}

const MOST_ROWS = 1024;
const MOST_TOKENS = 8192;

/** The node and the input for which the plan predicts times. */
export function WhereFields({ nodes, value, onChange, errors }: Props) {
  const { t } = useTranslation();
  const whole = (number: number | string, most: number) => Math.min(most, Math.max(1, Math.round(Number(number)) || 1));
  return (
    <SimpleGrid cols={{ base: 1, xs: 3 }}>
      <Select
        label={t("jobs.target.onNode")}
        data={nodes.map(({ id, name }) => ({ value: id, label: name }))}
        value={value.node}
        onChange={(node) => node && onChange({ ...value, node })}
        allowDeselect={false}
        error={errors["target.on.node"]}
      />
      <NumberInput
        label={t("jobs.target.rows")}
        value={value.rows ?? 1}
        onChange={(rows) => onChange({ ...value, rows: whole(rows, MOST_ROWS) })}
        min={1}
        max={MOST_ROWS}
        allowDecimal={false}
      />
      <NumberInput
        label={t("jobs.target.tokens")}
        value={value.tokens ?? 128}
        onChange={(tokens) => onChange({ ...value, tokens: whole(tokens, MOST_TOKENS) })}
        min={1}
        max={MOST_TOKENS}
        allowDecimal={false}
      />
    </SimpleGrid>
  );
}
