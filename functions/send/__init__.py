"""The API: takes transactions into the inbox, and reads them back."""
