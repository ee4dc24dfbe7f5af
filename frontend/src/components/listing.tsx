import { Group, Pagination, Text } from "@mantine/core";
import { type ReactNode, useCallback } from "react";
import { useTranslation } from "react-i18next";
import { useSearchParams } from "react-router";
import { Empty } from "./Empty";
import { Loaded } from "./Loaded";

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

/** What a list's address asks the server for: of each filter and of the orders what is known, the search, the page. */
export function listQuery<Choices extends Record<string, readonly string[]>, Order extends string>(
  { get, page }: ListAddress,
  choices: Choices,
  orders: readonly Order[],
) {
  const chosen = Object.entries(choices).map(([name, known]) => [name, known.find((value) => value === get(name))]);
  return {
    ...(Object.fromEntries(chosen) as { [Name in keyof Choices]: Choices[Name][number] | undefined }),
    ordering: orders.find((known) => known === get("ordering")),
    search: get("search") || undefined,
    page,
    page_size: PAGE_SIZE,
  };
}

interface ListedProps<Row> {
  address: ReturnType<typeof useListAddress>;
  query: { data: { count: number; results: Row[] } | undefined; error: unknown };
  /** Whether the address leaves anything out: then an empty list says so. */
  filtered: boolean;
  /** What stands in place of an empty list that leaves nothing out. */
  none?: { title: string; text: string; children?: ReactNode };
  lines?: number;
  children: (rows: Row[]) => ReactNode;
}

/** A page of a list, and the way to its other pages; or why there is nothing. */
export function Listed<Row>({ address, query, filtered, none, lines, children }: ListedProps<Row>) {
  const { t } = useTranslation();
  const empty = filtered || !none ? { title: t("common.noneMatches"), text: t("common.noneMatchesText") } : none;
  return (
    <Loaded query={query} lines={lines}>
      {({ count, results }) =>
        count === 0 ? (
          <Empty {...empty} />
        ) : (
          <>
            {children(results)}
            <Pager count={count} page={address.page} onPage={(next) => address.set("page", String(next))} />
          </>
        )
      }
    </Loaded>
  );
}

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
