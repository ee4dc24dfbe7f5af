import { Text } from "@mantine/core";
import { type DragEvent, useId, useState } from "react";
import classes from "./FileDrop.module.css";

interface Props {
  label: string;
  title: string;
  note: string;
  onFile: (file: File) => void;
}

/** A place to drop a file on; a click, or Enter in it, opens the picker. */
export function FileDrop({ label, title, note, onFile }: Props) {
  const id = useId();
  const [over, setOver] = useState(false);
  const take = (files: FileList | null) => {
    const file = files?.[0];
    if (file) onFile(file);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files);
  };
  return (
    <label
      htmlFor={id}
      className={classes.area}
      data-over={over || undefined}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <input
        id={id}
        type="file"
        aria-label={label}
        className={classes.input}
        onChange={(event) => {
          take(event.currentTarget.files);
          event.currentTarget.value = ""; // the same file, mended, can be chosen again
        }}
      />
      <Text fw={600} ta="center" className="breakable">
        {title}
      </Text>
      <Text size="sm" c="dimmed" ta="center">
        {note}
      </Text>
    </label>
  );
}
