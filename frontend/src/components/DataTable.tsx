import { Progress, Table, type TableProps, type TableThProps } from "@mantine/core";
import type { Key, ReactNode } from "react";

export interface Column<Row> {
  /** Tells the column from the others, and stands above it where no `head` does; "" leaves the place empty. */
  name: string;
  head?: ReactNode;
  cell: (row: Row, at: number) => ReactNode;
  /** Of the cells; of these the head takes number and nowrap. */
  className?: string;
  /** Its cells are the heads of their rows. */
  isRowHead?: boolean;
  /** Stands in bold. */
  strong?: boolean;
  foot?: ReactNode;
  props?: Pick<TableThProps, "w" | "miw" | "visibleFrom" | "aria-hidden" | "c">;
}

/** A column that is not shown is false. */
export type Columns<Row> = readonly (Column<Row> | false)[];

interface Props<Row> extends Omit<TableProps, "children" | "data"> {
  label?: string;
  rows: readonly Row[];
  columns: Columns<NoInfer<Row>>;
  keyOf: (row: Row, at: number) => Key;
  /** Pixels below which the table scrolls in its place. */
  minWidth?: number;
  isStrong?: (row: Row) => boolean;
}

/** Rows and columns: every table of the product. Where no column has a head, there is no line of heads. */
export function DataTable<Row>({ label, rows, columns, keyOf, minWidth, isStrong, ...table }: Props<Row>) {
  const shown = columns.filter((column) => column !== false);
  const foot = shown.some((column) => column.foot !== undefined);
  const drawn = (
    <Table aria-label={label} {...table}>
      {shown.some(({ name, head = name }) => head) && (
        <Table.Thead>
          <Table.Tr>
            {shown.map(({ name, head = name, className, props }) => {
              const Cell = head ? Table.Th : Table.Td;
              return (
                <Cell key={name} className={placing(className)} {...props}>
                  {head}
                </Cell>
              );
            })}
          </Table.Tr>
        </Table.Thead>
      )}
      <Table.Tbody>
        {rows.map((row, at) => (
          <Table.Tr key={keyOf(row, at)} fw={isStrong?.(row) ? 600 : undefined}>
            {shown.map(({ name, cell, className, isRowHead, strong, props }) =>
              isRowHead ? (
                <Table.Th key={name} scope="row" fw={isStrong?.(row) ? 600 : 400} className={className} {...props}>
                  {cell(row, at)}
                </Table.Th>
              ) : (
                <Table.Td key={name} fw={strong ? 600 : undefined} className={className} {...props}>
                  {cell(row, at)}
                </Table.Td>
              ),
            )}
          </Table.Tr>
        ))}
      </Table.Tbody>
      {foot && (
        <Table.Tfoot>
          <Table.Tr>
            {shown.map(({ name, foot: sum, className }) => (
              <Table.Th key={name} className={placing(className)}>
                {sum}
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Tfoot>
      )}
    </Table>
  );
  return minWidth === undefined ? drawn : <Table.ScrollContainer minWidth={minWidth}>{drawn}</Table.ScrollContainer>;
}

/** A share of each row as a bar, where there is room for it; its number stands in another column. */
export function barColumn<Row>(share: (row: Row) => number): Column<Row> {
  return {
    name: "",
    props: { w: "50%", visibleFrom: "xs", "aria-hidden": true },
    cell: (row) => <Progress value={100 * share(row)} size="md" radius="xs" />,
  };
}

function placing(className = ""): string {
  return className
    .split(" ")
    .filter((name) => name === "number" || name === "nowrap")
    .join(" ");
}
