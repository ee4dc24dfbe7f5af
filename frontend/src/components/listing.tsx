import { Group, Pagination, Text } from "@mantine/core";
import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import { useSearchParams } from "react-router";

export interface ListAddress {
  get: (name: string) => string;
  page: number;
}

export function listAddress(params: URLSearchParams): ListAddress {
  return { get: (name) => params.get(name) ?? "", page: Math.max(1, Number(params.get("page")) || 1) };
}

/** A list's page, filters and order live in the address, so that they can be sent, reloaded and gone back to. */
export function useListAddress() {
  const [params, setParams] = useSearchParams();
  const set = useCallback(
    (name: string, value: string) =>
      setParams(
        (before) => {
          const after = new URLSearchParams(before);
          if (value) after.set(name, value);
          else after.delete(name);
          if (name !== "page") after.delete("page");
          return after;
        },
        { replace: true },
      ),
    [setParams],
  );
  return { ...listAddress(params), set };
}

export const PAGE_SIZE = 25;

interface PagerProps {
  count: number;
  page: number;
  pageSize?: number;
  onPage: (page: number) => void;
}

export function Pager({ count, page, pageSize = PAGE_SIZE, onPage }: PagerProps) {
  const { t } = useTranslation();
  const pages = Math.ceil(count / pageSize);
  if (pages <= 1) return null;
  return (
    <Group justify="space-between">
      <Text size="sm" c="dimmed" className="figure">
        {t("common.range", { from: (page - 1) * pageSize + 1, to: Math.min(page * pageSize, count), count })}
      </Text>
      <Pagination
        total={pages}
        value={page}
        onChange={onPage}
        size="sm"
        getControlProps={(control) => ({ "aria-label": t(`common.page.${control}`) })}
      />
    </Group>
  );
}
