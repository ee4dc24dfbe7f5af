import { Anchor, Code, Table, Text, Title } from "@mantine/core";
import Markdown from "markdown-to-jsx/react";
import type { ReactNode } from "react";

/** Where a link of a card may lead: the web, and places within the page. */
export function isSafeLink(href: string): boolean {
  return /^(https?:\/\/|#)/i.test(href);
}

function Link({ href = "", children }: { href?: string; children?: ReactNode }) {
  return isSafeLink(href) ? (
    <Anchor href={href} rel="noreferrer nofollow" size="sm">
      {children}
    </Anchor>
  ) : (
    children
  );
}

const heading = (size: "h4" | "h5" | "h6") => ({
  // The page's own headings end at the second level.
  component: ({ children }: { children?: ReactNode }) => (
    <Title order={3} size={size} mt="md" mb={4}>
      {children}
    </Title>
  ),
});

const OVERRIDES = {
  h1: heading("h4"),
  h2: heading("h5"),
  h3: heading("h6"),
  h4: heading("h6"),
  h5: heading("h6"),
  h6: heading("h6"),
  a: { component: Link },
  // Nothing is fetched from elsewhere: a picture is shown as its description.
  img: { component: ({ alt }: { alt?: string }) => <Text span>{alt}</Text> },
  iframe: { component: () => null },
  pre: {
    component: ({ children }: { children?: ReactNode }) => (
      <Code block tabIndex={0}>
        {children}
      </Code>
    ),
  },
  table: {
    component: ({ children }: { children?: ReactNode }) => (
      <Table.ScrollContainer minWidth={320}>
        <Table>{children}</Table>
      </Table.ScrollContainer>
    ),
  },
  thead: { component: Table.Thead },
  tbody: { component: Table.Tbody },
  tr: { component: Table.Tr },
  th: { component: Table.Th },
  td: { component: Table.Td },
};

/** "---\nyaml\n---\ntext" -> "text" */
export function withoutFrontMatter(card: string): string {
  return card.replace(/^---\r?\n[\s\S]*?\r?\n---\r?\n/, "");
}

/** A card's Markdown as elements: its HTML is shown as text, its links lead to the web alone, its pictures stay away. */
export default function ModelCard({ card }: { card: string }) {
  return (
    <div className="card">
      <Markdown options={{ disableParsingRawHTML: true, forceBlock: true, overrides: OVERRIDES }}>
        {withoutFrontMatter(card)}
      </Markdown>
    </div>
  );
}
