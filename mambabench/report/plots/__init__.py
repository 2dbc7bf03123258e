"""The plots of a report, for print and for slides: a file a plot, drawn by matplotlib."""
