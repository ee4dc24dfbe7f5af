import { Group, Select, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import type en from "@/i18n/en.json";
import type { useListAddress } from "./listing";

type Order = keyof (typeof en)["common"]["orders"];

interface Choice {
  /** The filter's name in the address. */
  name: string;
  label: string;
  /** What stands there while nothing is chosen. */
  any: string;
  options: { value: string; label: string }[];
}

interface Props {
  address: ReturnType<typeof useListAddress>;
  choices?: Choice[];
  /** Keys of `common.orders`; the first one is the server's own. */
  orders?: readonly Order[];
  /** What stands before the fields. */
  children?: ReactNode;
}

/** The filter by state, as several lists have it. */
export function useStateChoice(states: readonly (keyof (typeof en)["state"])[]): Choice {
  const { t } = useTranslation();
  const options = states.map((value) => ({ value, label: t(`state.${value}`) }));
  return { name: "state", label: t("common.state"), any: t("common.anyState"), options };
}

/** Search, filters and order of a list, all of which live in the address. */
export function ListFilters({ address: { get, set }, choices = [], orders = [], children }: Props) {
  const { t } = useTranslation();
  const setSearch = useDebouncedCallback((text: string) => set("search", text), 300);
  return (
    <Group>
      {children}
      <TextInput
        aria-label={t("common.search")}
        placeholder={t("common.search")}
        defaultValue={get("search")}
        onChange={(event) => setSearch(event.currentTarget.value)}
        w={{ base: "100%", xs: 240 }}
      />
      {choices.map(({ name, label, any, options }) => (
        <Select
          key={name}
          aria-label={label}
          placeholder={any}
          data={options}
          value={options.some(({ value }) => value === get(name)) ? get(name) : null}
          onChange={(value) => set(name, value ?? "")}
          clearable
          w={{ base: "100%", xs: 180 }}
        />
      ))}
      {orders.length > 0 && (
        <Select
          aria-label={t("common.order")}
          data={orders.map((value) => ({ value, label: t(`common.orders.${value}`) }))}
          value={orders.find((known) => known === get("ordering")) ?? orders[0]}
          onChange={(value) => set("ordering", value === orders[0] ? "" : (value ?? ""))}
          allowDeselect={false}
          w={{ base: "100%", xs: 180 }}
        />
      )}
    </Group>
  );
}
