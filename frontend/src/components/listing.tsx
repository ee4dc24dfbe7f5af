import { Group, Pagination, Text } from "@mantine/core";
import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import { useSearchParams } from "react-router";

export interface ListAddress {
  get: (name: string) => string;
  page: number;
}

export function listAddress(params: URLSearchParams, prefix = ""): ListAddress {
  const get = (name: string) => params.get(prefix + name) ?? "";
  return { get, page: Math.max(1, Number(get("page")) || 1) };
}

/** A list's page, filters and order live in the address, so that they can be sent, reloaded and gone back to.
 * Where a page has two lists, a prefix tells theirs apart. */
export function useListAddress(prefix = "") {
  const [params, setParams] = useSearchParams();
  const set = useCallback(
    (name: string, value: string) =>
      setParams(
        (before) => {
          const after = new URLSearchParams(before);
          if (value) after.set(prefix + name, value);
          else after.delete(prefix + name);
          if (name !== "page") after.delete(`${prefix}page`);
          return after;
        },
        { replace: true },
      ),
    [setParams, prefix],
  );
  return { ...listAddress(params, prefix), set };
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
