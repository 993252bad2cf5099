"""`python -m rfdetr_hwd ...`, the form that torchrun launches."""

from rfdetr_hwd.cli.app import main

if __name__ == "__main__":
    main()
