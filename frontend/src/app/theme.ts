import { createTheme } from "@mantine/core";

/** One accent colour; shades chosen so that white text on it, and it on either background, keep a contrast of 4.5. */
export const theme = createTheme({
  primaryColor: "cyan",
  primaryShade: { light: 9, dark: 9 },
  defaultRadius: "md",
  autoContrast: true,
  cursorType: "pointer",
  headings: { fontWeight: "650" },
  components: {
    Table: { defaultProps: { verticalSpacing: 6, horizontalSpacing: "sm" } },
    // Whatever scrolls can be reached and scrolled with the keyboard.
    TableScrollContainer: { defaultProps: { type: "native", tabIndex: 0 } },
  },
});
